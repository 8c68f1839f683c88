"""Beginnings on disk: only the same ids of the same model come back, whole, and the folder keeps within its budget."""

import os
from pathlib import Path

import pytest

from koboshi_runtime.worker.prefixes import Prefixes

IDS = list(range(100))
STATE = b"cells" * 100


@pytest.fixture
def prefixes(tmp_path: Path) -> Prefixes:
    return Prefixes(tmp_path / "prefixes", "a model", budget_bytes=2000)


def test_what_was_written_is_read_back(prefixes: Prefixes) -> None:
    prefixes.write(IDS, STATE)
    assert prefixes.read(IDS) == STATE


def test_other_ids_and_another_model_find_nothing(prefixes: Prefixes) -> None:
    prefixes.write(IDS, STATE)
    assert prefixes.read(IDS[:-1]) is None
    assert Prefixes(prefixes.folder, "another model", 2000).read(IDS) is None


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_damaged_file_is_not_given_to_llama_cpp_and_goes(prefixes: Prefixes, place: int) -> None:
    prefixes.write(IDS, STATE)
    (path,) = prefixes.folder.iterdir()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert prefixes.read(IDS) is None
    assert list(prefixes.folder.iterdir()) == []


def test_over_the_budget_the_longest_unused_goes(prefixes: Prefixes) -> None:
    for number in range(3):
        prefixes.write([number, *IDS], STATE)
        for path in prefixes.folder.iterdir():
            stat = path.stat()
            os.utime(path, (stat.st_atime - 10, stat.st_mtime - 10))
    assert prefixes.read([0, *IDS]) == STATE
    prefixes.write([3, *IDS], STATE)
    assert [prefixes.read([number, *IDS]) is not None for number in range(4)] == [True, False, True, True]


def test_a_state_larger_than_the_budget_is_not_kept(prefixes: Prefixes) -> None:
    prefixes.write(IDS, STATE * 5)
    assert prefixes.read(IDS) is None


def test_a_folder_that_cannot_be_made_costs_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    blocked = Prefixes(tmp_path / "file" / "prefixes", "a model", 2000)
    blocked.write(IDS, STATE)
    assert not (tmp_path / "file" / "prefixes").exists()


def test_files_are_their_owners_alone(prefixes: Prefixes) -> None:
    prefixes.write(IDS, STATE)
    (path,) = prefixes.folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
