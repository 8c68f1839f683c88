"""The schema as a golden file. To change it on purpose: `python -m tests.runtime.test_store_schema`."""

import sqlite3
import tempfile
from pathlib import Path

from koboshi_runtime.store import Store

GOLDEN = Path(__file__).parents[1] / "golden" / "schema.sql"


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


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(schema_of_a_new_store(Path(folder)), encoding="utf-8")
