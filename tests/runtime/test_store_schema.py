"""The schema as a golden file, and on its page.

To change both on purpose: `python -m tests.runtime.test_store_schema`.
"""

import re
import sqlite3
import tempfile
from pathlib import Path

from koboshi_runtime.store import Store

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "schema.sql"
PAGE = TESTS.parent / "docs" / "reference" / "database.md"
QUERIES = TESTS.parent / "docs" / "how-to" / "query-traces.md"
HEADING = "## Schema\n\n"


def schema_of_a_new_store(folder: Path) -> str:
    """The statements that a new file is made of, without those SQLite makes by itself, in a stable order."""
    path = folder / "traces.db"
    Store.open(path).close()
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        rows = db.execute(
            "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT GLOB '*_fts_*' ORDER BY rowid"
        ).fetchall()
    return "\n".join(f"{row[0]};" for row in rows) + "\n"


def test_the_schema_is_the_golden_one(tmp_path: Path) -> None:
    assert schema_of_a_new_store(tmp_path) == GOLDEN.read_text(encoding="utf-8")


def test_the_page_shows_the_schema() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(HEADING)[2]
    assert shown == f"```sql\n{GOLDEN.read_text(encoding='utf-8')}```\n"


def test_every_query_in_the_guide_runs(tmp_path: Path) -> None:
    Store.open(tmp_path / "traces.db").close()
    found = re.findall(r"```sql\n(.*?)```", QUERIES.read_text(encoding="utf-8"), re.DOTALL)
    with sqlite3.connect(f"file:{tmp_path}/traces.db?mode=ro", uri=True) as db:
        answers = [db.execute(query).fetchall() for block in found for query in block.split(";\n") if query]
    assert answers == [[]] * 6


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        schema = schema_of_a_new_store(Path(folder))
    GOLDEN.write_text(schema, encoding="utf-8")
    prose = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    PAGE.write_text(f"{prose}{HEADING}```sql\n{schema}```\n", encoding="utf-8")
