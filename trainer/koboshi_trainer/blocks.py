"""A report for people as blocks, the same on the terminal and as Markdown.

Whoever makes a block has made its texts safe to print (`plain`). What a model, task or tool wrote stands in `code`
only; in Markdown that is an indented block, since no text can close one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a report: a title, sentences, then a table and lines that are shown as they are."""

    title: str
    text: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    code: tuple[str, ...] = ()


def markdown_of(title: str, blocks: Iterable[Block]) -> str:
    """Return the blocks as a page of Markdown."""
    return "\n\n".join([f"# {_inert(title)}", *(_markdown(block) for block in blocks)]) + "\n"


def print_blocks(blocks: Iterable[Block], console: Console) -> None:
    """Print the blocks."""
    for block in blocks:
        console.print(Text(f"\n{block.title}", style="bold"))
        for line in block.text:
            console.print(Text(line), soft_wrap=True)
        if block.rows:
            table = Table(box=None, pad_edge=False)
            for column in block.columns:
                table.add_column(column)
            for row in block.rows:
                table.add_row(*(Text(cell) for cell in row))
            console.print(table)
        for line in block.code:
            # A command or path that is broken by the terminal's width could not be copied.
            console.print(Text(f"  {line}"), soft_wrap=True)


def _markdown(block: Block) -> str:
    parts = [f"## {_inert(block.title)}"]
    if block.text:
        parts.append("  \n".join(_inert(line) for line in block.text))
    if block.rows:
        lines = [block.columns, tuple("---" for _ in block.columns), *block.rows]
        parts.append("\n".join(_markdown_row(row) for row in lines))
    if block.code:
        parts.append("\n".join(f"    {line}" for line in block.code))
    return "\n\n".join(parts)


def _markdown_row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_inert(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _inert(text: str) -> str:
    """Return `text` without what Markdown would make an element or a link of; a name from outside may stand in it."""
    return text.replace("<", "&lt;").replace("[", chr(92) + "[")
