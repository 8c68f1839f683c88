"""What is installed is what is in the tree: wheel and sdist are built for real and looked into."""

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_PACKAGES = {
    "koboshi_tools": "tools",
    "koboshi_policies": "policies",
    "koboshi_runtime": "runtime",
    "koboshi_trainer": "trainer",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    return folder


def _tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=_ROOT, check=True, capture_output=True, text=True)
    return {path for path in listed.stdout.splitlines() if (_ROOT / path).exists()}


def _wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else_of_the_tree(built: Path) -> None:
    wanted = {path.partition("/")[2] for path in _tracked() if path.split("/")[1:2] and path.split("/")[1] in _PACKAGES}
    with _wheel(built) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert wanted - held == set()
    assert {name.partition("/")[0] for name in held} == set(_PACKAGES)


def test_each_package_says_that_it_is_typed(built: Path) -> None:
    with _wheel(built) as wheel:
        assert {f"{package}/py.typed" for package in _PACKAGES} - set(wheel.namelist()) == set()


@pytest.mark.parametrize(
    "data",
    ["koboshi_policies/presets/*.toml", "koboshi_runtime/packs/*/koboshi.toml", "koboshi_trainer/data/prose.txt"],
)
def test_data_travels_with_the_code(built: Path, data: str) -> None:
    with _wheel(built) as wheel:
        assert [name for name in wheel.namelist() if Path(name).match(data)] != []


def test_the_metadata_names_the_program_the_licence_and_the_extra(built: Path) -> None:
    with _wheel(built) as wheel:
        (folder,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
        points = wheel.read(f"{folder}/entry_points.txt").decode()
    assert "koboshi = koboshi_runtime.cli:main" in points
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert "train" in (metadata.get_all("Provides-Extra") or [])


def test_the_sdist_holds_what_a_rebuild_and_the_tests_need(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "constraints.txt",
        "tests/conftest.py",
    }
    assert wanted - held == set()


def test_the_wheel_answers_from_a_folder_outside_the_tree(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    program = f"import sys; sys.path.insert(0, {str(site)!r}); from koboshi_runtime.cli import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "Commands:" in done.stdout
