"""The README's tree names every module of the four packages with the first line of its docstring.

Run as a program, this file writes the tree anew: python tests/test_readme_tree.py
"""

import ast
import subprocess
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- tree -->\n```\n", "```\n<!-- /tree -->"
PACKAGES = (
    "tools/koboshi_tools",
    "policies/koboshi_policies",
    "runtime/koboshi_runtime",
    "trainer/koboshi_trainer",
)


def modules() -> list[Path]:
    """Return every tracked module that says something; packages that only re-export have no line."""
    command = ["git", "-C", str(ROOT), "ls-files", "--", *(f"{package}/*.py" for package in PACKAGES)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [path for name in listed if (path := Path(name)).name != "__init__.py" and (ROOT / path).exists()]


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    assert docstring, f"{path} has no docstring"
    return docstring.splitlines()[0]


def tree() -> str:
    """Return the tree as the README holds it."""
    lines = []
    for folder, found in groupby(
        sorted(modules(), key=lambda path: (str(path.parent), path.name)), key=lambda p: p.parent
    ):
        lines.append(f"{folder}/")
        lines += [f"  {path.name:24} {first_line(path)}" for path in found]
    return "\n".join(lines) + "\n"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="which modules are tracked is known in a clone only")
def test_readme_has_one_line_for_each_module() -> None:
    text = README.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == tree()


if __name__ == "__main__":
    whole = README.read_text(encoding="utf-8")
    head, tail = whole[: whole.index(BEGIN) + len(BEGIN)], whole[whole.index(END) :]
    README.write_text(head + tree() + tail, encoding="utf-8")
