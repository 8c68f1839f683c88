"""The offline kit for real: made, then installed and used where there is no network; and the runtime without extras."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.model]

_ROOT = Path(__file__).parents[2]
_OFFLINE = ("unshare", "--map-root-user", "--net")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit, as `make bundle` makes it."""
    made = tmp_path_factory.mktemp("kit") / "koboshi-offline"
    subprocess.run(["make", "bundle", f"KIT={made}"], cwd=_ROOT, check=True, capture_output=True)
    return made


def offline(command: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in `folder` as a user of its own home, without a network."""
    if subprocess.run([*_OFFLINE, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("network namespaces are not to be had here")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KOBOSHI_HOME": str(folder / "home")}
    return subprocess.run(
        [*_OFFLINE, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def koboshi(environment: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return offline([str(environment / "bin" / "koboshi"), *arguments], environment.parent)


def test_kit_installs_and_answers_without_a_network(kit: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    done = offline(["sh", str(kit / "install.sh"), str(environment)], tmp_path)
    assert done.returncode == 0, done.stderr
    ran = koboshi(environment, "run", "How much is 17 * 23?", "--json")
    assert json.loads(ran.stdout)["model"]["name"] == "SmolLM2-135M-Instruct.Q4_1", ran.stderr
    trains = offline([str(environment / "bin" / "python"), "-c", "import torch, peft, gguf, koboshi_trainer"], tmp_path)
    assert trains.returncode == 0, trains.stderr


def test_kit_with_a_changed_file_is_refused_before_anything_is_installed(kit: Path, tmp_path: Path) -> None:
    changed = tmp_path / "kit"
    shutil.copytree(kit, changed, copy_function=os.link)
    wheel = next((changed / "wheels").glob("koboshi-*.whl"))
    data = wheel.read_bytes()
    wheel.unlink()
    wheel.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = offline(["sh", str(changed / "install.sh"), str(tmp_path / "venv")], tmp_path)
    assert (done.returncode, (tmp_path / "venv").exists()) == (1, False)
    assert "error: a file of the kit is not the one that was packed" in done.stderr


def test_kit_of_another_processor_or_python_is_refused(kit: Path, tmp_path: Path) -> None:
    for name, text, said in (
        ("cpu-flags", "avx9000\n", "lacks avx9000"),
        ("python-version", "3.99\n", "for Python 3.99"),
    ):
        other = tmp_path / name
        shutil.copytree(kit, other, copy_function=os.link)
        (other / name).unlink()
        (other / name).write_text(text, encoding="utf-8")
        done = offline(["sh", str(other / "install.sh"), str(tmp_path / "venv")], tmp_path)
        assert (done.returncode, (tmp_path / "venv").exists()) == (1, False)
        assert said in done.stderr


def test_wheel_alone_gives_the_runtime_and_names_the_extra_for_the_rest(kit: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--isolated", "install", "--quiet", "--no-index"]
    done = offline([*pip, "--find-links", str(kit / "wheels"), "koboshi"], tmp_path)
    assert done.returncode == 0, done.stderr
    packages = {path.name.lower() for path in (environment / "lib").glob("python*/site-packages/*")}
    assert packages & {"torch", "transformers", "peft", "gguf", "safetensors", "mcp"} == set()
    source = next((kit / "model").glob("*.whl"))
    with zipfile.ZipFile(source) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.endswith(".gguf")])
    (model,) = tmp_path.rglob("*.gguf")
    for line in (("models", "add", str(model)), ("run", "How much is 17 * 23?"), ("why", "@last"), ("doctor",)):
        used = koboshi(environment, *line)
        assert used.returncode == 0, used.stderr
    assert koboshi(environment, "init", "place").returncode == 0
    refused = koboshi(environment, "train", "-C", "place")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "hint: pip install 'koboshi[train]'" in refused.stderr
