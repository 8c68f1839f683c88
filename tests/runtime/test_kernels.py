"""Koboshi's own kernels: right, and done without where they cannot be had or are wrong."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from koboshi_runtime.worker import kernels
from koboshi_runtime.worker.kernels_check import attention_error, product_error, wrong

pytestmark = pytest.mark.skipif(kernels.unfit() is not None, reason=f"kernels: {kernels.unfit()}")


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    kernels.load()
    return ctypes.CDLL(str(kernels.library_path()))


@pytest.mark.parametrize("sizes", [(576, 64, 48, 2), (1000, 33, 18, 3), (5, 2, 1, 4), (49, 7, 5, 1)])
def test_products_are_those_of_numpy(library: ctypes.CDLL, sizes: tuple[int, int, int, int]) -> None:
    assert product_error(library, np.random.default_rng(1), *sizes) < 2e-6


@pytest.mark.parametrize("sizes", [(16, 1024, 3, 3, 64, 2), (7, 512, 8, 4, 128, 2), (63, 16, 1, 7, 64, 5)])
def test_attention_is_that_of_numpy(library: ctypes.CDLL, sizes: tuple[int, int, int, int, int, int]) -> None:
    assert attention_error(library, np.random.default_rng(1), *sizes) < 2e-6
    assert wrong(library) is None


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its own with sources that may be changed; their folder."""
    sources = Path(shutil.copytree(kernels._C, tmp_path / "c"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(kernels, "_C", sources)
    return sources


def _loaded_anew() -> kernels.Kernels:
    return kernels.load.__wrapped__()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("products.c", "-128 *", "-127 *", "products of .* are off by"),
        ("attention.c", "1.0f / 6)", "1.0f / 7)", "attention of .* is off by"),
        ("hooks.c", "#define _GNU_SOURCE", "#error told so", "did not compile them: .*told so"),
    ],
)
def test_what_is_wrong_is_not_used_and_not_tried_again(
    changed: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, said: str
) -> None:
    text = (changed / file).read_text(encoding="utf-8")
    assert old in text
    (changed / file).write_text(text.replace(old, new), encoding="utf-8")
    refused = _loaded_anew()
    assert refused.library is None
    assert refused.reason is not None
    assert not kernels.library_path().exists()
    assert re.search(said, refused.reason)
    monkeypatch.setenv("PATH", "")
    assert _loaded_anew() == refused
    assert kernels.why_not() == refused.reason
    assert f"remove {kernels.library_path().with_suffix('.refused')}" in refused.reason


def test_sound_sources_are_compiled_once(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _loaded_anew().reason is None
    made = kernels.library_path().stat().st_mtime_ns
    monkeypatch.setenv("PATH", "")
    assert _loaded_anew().reason is None
    assert kernels.library_path().stat().st_mtime_ns == made
    assert [path.name for path in kernels.library_path().parent.iterdir()] == [kernels.library_path().name]


def test_without_compiler_or_folder_everything_is_llama_cpps(
    changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prefix").write_text("a file")
    assert "cannot be written" in str(_loaded_anew().reason)
    monkeypatch.setenv("PATH", "")
    assert _loaded_anew() == kernels.Kernels(None, "there is no C compiler (cc) to compile them")
    assert kernels.Kernels(None, "").used() == (0, 0)


def test_other_versions_and_processors_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_llama_version", lambda: "0.4.0")
    assert "do not know llama-cpp-python 0.4.0" in str(kernels.unfit())
    monkeypatch.setattr(kernels, "_processor_flags", lambda: {"avx2", "fma", "f16c"})
    assert "no avx512_vnni, avx512bw" in str(kernels.why_not())
    monkeypatch.setenv("KOBOSHI_NO_KERNELS", "1")
    assert _loaded_anew() == kernels.Kernels(None, "KOBOSHI_NO_KERNELS is set")


@pytest.mark.parametrize(
    ("first", "reason"), [("koboshi_runtime.bench.__main__", "KOBOSHI_NO_KERNELS is set"), ("json", "None")]
)
def test_rivals_of_the_bench_do_without_them(first: str, reason: str) -> None:
    code = f"import {first}; from koboshi_runtime.llama import KERNELS; print(KERNELS.reason)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == reason
