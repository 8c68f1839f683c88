"""The morning report as one HTML file that needs nothing else: no script, no picture or style from anywhere.

Every text is escaped, whoever wrote it; what a terminal could act on is escaped before that. The page forbids itself
to load or run anything, should a text ever slip through. Plots are SVG in the page.
"""

from collections.abc import Iterator
from html import escape

from ..blocks import Block
from .plots import bars, curve
from .report import Learnt, Morning
from .text import blocks, headline

_STYLE = """
:root { color-scheme: light dark; --faint: #8886; --before: #999; --after: #2a7; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
th { border-bottom: 1px solid var(--faint); } pre { overflow-x: auto; padding: .5rem; border: 1px solid var(--faint); }
svg { max-width: 100%; height: auto; } svg text { font: 13px system-ui, sans-serif; fill: currentColor; }
.before { fill: var(--before); } .after { fill: var(--after); }
.axis { stroke: var(--faint); } .line { fill: none; stroke: var(--after); stroke-width: 2; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html(morning: Morning) -> str:
    """Return the report as a page of HTML."""
    title = escape(headline(morning))
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
    )
    body = "\n".join([f"<h1>{title}</h1>", *_plots(morning), *map(_block, blocks(morning))])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _plots(morning: Morning) -> Iterator[str]:
    verdict = morning.verdict
    if verdict is not None and verdict.current_rate is not None and verdict.candidate_rate is not None:
        rows = [("all tasks", verdict.current_rate, verdict.candidate_rate)]
        rows += [(row.tool, row.current_rate, row.candidate_rate) for row in verdict.tools]
        yield _figure("Success before (grey) and after (green), by tool", bars(rows))
    if morning.learnt is not None and len(morning.learnt.losses) > 1:
        yield _figure(_loss_title(morning.learnt), curve(morning.learnt.losses))


def _loss_title(learnt: Learnt) -> str:
    return f"Training loss over {learnt.optimizer_steps} optimizer steps, nats a learnt token"


def _figure(title: str, drawn: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawn}</figure>"


def _block(block: Block) -> str:
    parts = [f"<h2>{escape(block.title)}</h2>"]
    parts += [f"<p>{escape(line)}</p>" for line in block.text]
    if block.rows:
        head = "".join(f"<th>{escape(name)}</th>" for name in block.columns)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in block.rows)
        parts.append(f"<table><tr>{head}</tr>{rows}</table>")
    if block.code:
        parts.append(f"<pre>{escape(chr(10).join(block.code))}</pre>")
    return "\n".join(parts)
