"""One run whole: its steps as a tree, and beside it the text of the line under the cursor."""

from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static, Tree

from ..records import Trajectory
from .cells import line, short, verdict
from .labelling import LABEL_KEYS, labels_of
from .run_nodes import Node, overview, run_nodes
from .tokens import Pieces
from .view import ask, look_of, palette, tell
from .wishes import ExplainCall

_WIDE = 110
"""Columns from which the tree and the text stand beside each other, and not one above the other."""


class RunScreen(Screen[None]):
    """A run. It is read again while it goes on."""

    about = "A run, step by step: what was read, written, called, decided and returned. Tab goes to the text and back."

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape,q", "leave", "back"),
        Binding("j", "tree('cursor_down')", "down", show=False),
        Binding("k", "tree('cursor_up')", "up", show=False),
        Binding("right", "open_node(True)", "open", show=False),
        Binding("left", "open_node(False)", "close", show=False),
        Binding("e", "all", "open all"),
        Binding("tab", "other", "text/tree"),
        Binding("p", "explain", "why allowed", show=False),
        *LABEL_KEYS,
    ]

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.run: Trajectory | None = None
        self._pieces: Pieces | None = None

    def compose(self) -> ComposeResult:
        """Lay out head, tree and text."""
        yield Static(id="run-head", classes="head")
        with Container(id="run-body"):
            tree: Tree[Node] = Tree(Text("run"), id="run-tree")
            tree.guide_depth = 2
            yield tree
            with VerticalScroll(id="run-detail"):
                yield Static(id="run-text")
        yield Footer(compact=True, show_command_palette=False)

    async def on_mount(self) -> None:
        """Read the run."""
        self.on_resize()
        await self.reload()
        self.query_one(Tree).focus()
        self._read_pieces()

    @work
    async def _read_pieces(self) -> None:
        if self.run is not None:
            self._pieces = await ask(self, look_of(self).pieces, self.run.header.model_hash)
            node = self.query_one(Tree).cursor_node
            self._show(node.data if node else None)

    def on_resize(self) -> None:
        """Put tree and text beside each other where there is room."""
        self.query_one("#run-body").set_class(self.app.size.width >= _WIDE, "-wide")

    async def reload(self) -> None:
        """Read the run anew, and draw it if anything changed."""
        run = await ask(self, look_of(self).store.trajectory, self.run_id)
        if run is not None and run != self.run:
            self.run = run
            self._draw(run)

    async def changed(self) -> None:
        """Follow a run that goes on, and labels from elsewhere."""
        await self.reload()

    def _draw(self, run: Trajectory) -> None:
        styles = palette(self)
        tree: Tree[Node] = self.query_one(Tree)
        place = tree.cursor_line
        opened = [node.is_expanded for node in tree.root.children]
        tree.clear()
        tree.root.set_label(Text(f"run {short(run.run_id)}", styles.strong))
        tree.root.data = Node(Text(), lambda _: overview(run, styles))
        for number, node in enumerate(run_nodes(run, styles)):
            branch = tree.root.add(node.title, node, allow_expand=bool(node.children))
            _grow(branch, node)
            if number < len(opened) and opened[number]:
                branch.expand()
        tree.root.expand()
        tree.cursor_line = max(place, 0)
        head = Text.assemble((f" run {short(run.run_id)}  ", styles.strong), no_wrap=True)
        head.append_text(verdict(run.outcome if run.end else "running", styles)).append("  ")
        head.append_text(line(run.header.prompt, 300, styles.quiet))
        self.query_one("#run-head", Static).update(head)
        self._show(tree.cursor_node.data if tree.cursor_node else tree.root.data)

    def _show(self, node: Node | None) -> None:
        if node is not None:
            self.query_one("#run-text", Static).update(node.detail(self._pieces))

    @on(Tree.NodeHighlighted)
    def _moved(self, event: Tree.NodeHighlighted[Node]) -> None:
        self._show(event.node.data)
        self.query_one("#run-detail").scroll_home(animate=False)

    def action_leave(self) -> None:
        """Go back to the list."""
        self.dismiss()

    def action_tree(self, move: str) -> None:
        """Move in the tree."""
        tree: Tree[Node] = self.query_one(Tree)
        getattr(tree, f"action_{move}")()

    def action_open_node(self, opening: bool) -> None:
        """Open a line, or close it, or go to the line that it belongs to."""
        tree: Tree[Node] = self.query_one(Tree)
        node = tree.cursor_node
        if node is None:
            return
        if opening:
            node.expand()
        elif node.is_expanded and node.allow_expand:
            node.collapse()
        elif node.parent is not None:
            tree.move_cursor(node.parent)

    def action_all(self) -> None:
        """Open every step, or close all."""
        tree: Tree[Node] = self.query_one(Tree)
        opened = all(node.is_expanded for node in tree.root.children if node.allow_expand)
        for node in tree.root.children:
            node.collapse_all() if opened else node.expand_all()

    def action_other(self) -> None:
        """Move the keys between tree and text, to scroll there."""
        other = self.query_one("#run-detail") if self.query_one(Tree).has_focus else self.query_one(Tree)
        other.focus()

    def action_explain(self) -> None:
        """Ask the rules of now about the call under the cursor."""
        node = self.query_one(Tree).cursor_node
        while node is not None and (node.data is None or node.data.call is None):
            node = node.parent
        if node is None or node.data is None or node.data.call is None:
            tell(self, "Put the cursor on a call first.", severity="warning")
            return
        self.app.post_message(ExplainCall(node.data.call))
        self.dismiss()

    @work
    async def action_label(self, label: str) -> None:
        """Label the run."""
        await labels_of(self).give(self, self.run_id, label)
        await self.reload()

    @work
    async def action_take_back(self) -> None:
        """Take the last label back."""
        await labels_of(self).take_back(self)
        await self.reload()


def _grow(branch: Any, node: Node) -> None:
    for child in node.children:
        if child.children:
            _grow(branch.add(child.title, child, expand=True), child)
        else:
            branch.add_leaf(child.title, child)
