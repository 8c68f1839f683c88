"""The models: where each comes from, what the gate and the parity check said of it, and which one is live."""

from collections.abc import Mapping
from typing import Any, ClassVar

from rich.text import Text

from ..models.registry import ModelEntry, Registry
from .cells import block, clock, line, many, short_hash
from .listing import Listing
from .lists import Column, Rows
from .plot import bar
from .theme import Palette
from .view import look_of, palette

_SIGNS = {"current": "● current", "previous": "○ previous", "candidate": "◇ candidate", "retired": "· retired"}


class ModelsView(Listing[ModelEntry]):
    """Models with lineage, gate and parity."""

    title = "Models"
    about = "Every model of the home, the newest first, with what it was made from, and what was proved of it."
    columns = (
        Column("state", 11),
        Column("name", 0),
        Column("hash", 12, wide=90),
        Column("made", 11),
        Column("kind", 6),
        Column("MB", 6),
        Column("gate", 9),
        Column("parity", 8),
    )
    empty = "no model yet; koboshi models add adds one"
    patience_s = 5.0
    BINDINGS: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__("models")

    def read(self) -> list[ModelEntry]:
        """Read every manifest."""
        return list(reversed(Registry(look_of(self).home).list()))

    def key_of(self, row: ModelEntry) -> str:
        """Return the model's hash."""
        return row.manifest.model_hash

    def cells(self, row: ModelEntry, rows: Rows) -> list[Text]:
        """Return the cells of a model."""
        styles, known = palette(self), row.manifest
        gate = None if known.gate is None else known.gate.accepted
        parity = None if known.parity is None else known.parity.passed
        return [
            Text(_SIGNS[row.state], styles.good if row.state == "current" else styles.quiet),
            line(known.name, rows.width_of("name")),
            Text(short_hash(known.model_hash), styles.quiet),
            Text(clock(known.created_at), styles.quiet),
            line(known.quantization, 6),
            Text(f"{known.bytes / 1e6:>6,.0f}"),
            _passed(gate, ("✓ better", "✗ refused"), styles),
            _passed(parity, ("✓ equal", "✗ failed"), styles),
        ]

    def told(self, row: ModelEntry) -> Text:
        """Return lineage, gate and parity."""
        styles, known = palette(self), row.manifest
        shown = Text.assemble(line(known.name, None, styles.strong), f"  {short_hash(known.model_hash)}\n")
        shown.append_text(
            line(f"{known.architecture}, {known.context_tokens:,} tokens, {known.release}", None, styles.quiet)
        )
        shown.append("\n\n").append_text(self._lineage(row, styles))
        if known.gate is not None:
            shown.append("\n").append_text(
                gate_text(known.gate.verdict, styles, against=self._named(known.gate.against))
            )
        if known.parity is not None:
            shown.append("\n").append_text(parity_text(known.parity.report, styles))
        return shown

    def _named(self, model_hash: str) -> str:
        names = {each.manifest.model_hash: each.manifest.name for each in self.found}
        return f"{names.get(model_hash, 'a model that is gone')} {short_hash(model_hash)}"

    def _lineage(self, row: ModelEntry, styles: Palette) -> Text:
        shown = Text.assemble(("made from\n", styles.strong))
        parents = row.manifest.parents
        if parents.base is None:
            return shown.append("└ ", styles.quiet).append_text(line(row.manifest.source)).append("\n")
        known = {"master": parents.master, "dataset": parents.dataset, "adapter": parents.adapter}
        shown.append("├ base     ", styles.quiet).append_text(line(self._named(parents.base))).append("\n")
        for place, (name, found) in enumerate(known.items()):
            mark = "└" if place == len(known) - 1 else "├"
            shown.append(f"{mark} {name:8} ", styles.quiet).append(short_hash(found) if found else "none").append("\n")
        return shown

    def status(self) -> Text:
        """Return how many there are."""
        return Text(many(len(self.found), "model") if self.found else self.empty)


def gate_text(verdict: Mapping[str, Any], styles: Palette, *, against: str = "") -> Text:
    """Return what a gate said, from the verdict as it is stored."""
    accepted = bool(verdict.get("accepted"))
    shown = Text.assemble(("gate ", styles.strong), _passed(accepted, ("✓ accepted", "✗ refused"), styles))
    if against:
        shown.append(" against ", styles.quiet).append_text(line(against, None, styles.quiet))
    shown.append("\n")
    for name, key in (("before", "current_rate"), ("after", "candidate_rate")):
        rate = verdict.get(key)
        if isinstance(rate, int | float):
            shown.append(
                f"{name:>8} {bar(rate, 24)} {rate:6.1%}\n", styles.good if key == "candidate_rate" else styles.quiet
            )
    numbers = ("tasks", "seeds", "wins", "losses", "ties", "p_value", "alpha")
    said = ", ".join(f"{name} {verdict[name]:.3g}" for name in numbers if isinstance(verdict.get(name), int | float))
    shown.append_text(line(said, None, styles.quiet)).append("\n")
    for reason in verdict.get("reasons") or ():
        shown.append("  because ", styles.bad).append_text(block(str(reason.get("text", "")), 500)).append("\n")
    for tool in verdict.get("tools") or ():
        rates = f"{tool.get('current_rate', 0):.0%} → {tool.get('candidate_rate', 0):.0%} on {tool.get('tasks')} tasks"
        shown.append("  ").append_text(line(str(tool.get("tool")), 20, styles.name)).append(f"  {rates}\n")
    return shown


def parity_text(report: Mapping[str, Any], styles: Palette) -> Text:
    """Return what the parity check said, from the report as it is stored."""
    said = _passed(bool(report.get("passed")), ("✓ the file is the model", "✗ failed"), styles)
    shown = Text.assemble(("parity ", styles.strong), said, "\n")
    for file in report.get("files") or ():
        agreement, kept = file.get("agreement") or {}, file.get("kept") or {}
        parts = [f"same first token {agreement['top1']:.1%}"] if "top1" in agreement else []
        parts += [f"KL divergence {agreement['kld']:.2g}"] if "kld" in agreement else []
        parts += [f"update kept {kept['total']:.1%}"] if "total" in kept else []
        shown.append("  ").append_text(line(str(file.get("kind")), 10, styles.name)).append(f"  {', '.join(parts)}\n")
    for reason in report.get("reasons") or ():
        shown.append("  because ", styles.bad).append_text(block(str(reason), 500)).append("\n")
    return shown


def _passed(value: bool | None, words: tuple[str, str], styles: Palette) -> Text:
    if value is None:
        return Text("-", styles.quiet)
    return Text(words[0], styles.good) if value else Text(words[1], styles.bad)
