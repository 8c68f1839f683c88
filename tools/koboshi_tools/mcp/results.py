"""What a server answered, as text for a model: texts as they are, everything else by what it is and how large."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..canonical import canonical_json


def result_text(content: Sequence[Mapping[str, Any]], structured: Any) -> str:
    """Return the text of a result; what is structured only stands for it where there is no content."""
    shown = [_block(block) for block in content]
    if not shown and structured is not None:
        return canonical_json(structured)
    return "\n".join(shown)


def _block(block: Mapping[str, Any]) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text", ""))
        case "image" | "audio" as kind:
            return f"[{kind} {block.get('mimeType', '')}, {len(str(block.get('data', '')))} characters of base64]"
        case "resource_link":
            return f"[resource {block.get('name', '')} {block.get('uri', '')}]"
        case "resource":
            return _resource(block.get("resource") or {})
        case kind:
            return f"[{kind}]"


def _resource(resource: Mapping[str, Any]) -> str:
    if isinstance(text := resource.get("text"), str):
        return text
    return f"[resource {resource.get('uri', '')}, {len(str(resource.get('blob', '')))} characters of base64]"
