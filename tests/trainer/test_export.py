import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path
from typing import Never

import pytest
from tests.trainer.conftest import Kit

from koboshi_tools import KoboshiError, hash_file
from koboshi_trainer.export import MANIFEST, ExportManifest, Quantise, export
from koboshi_trainer.gguf.read import read_gguf


@pytest.fixture
def parts(tmp_path: Path, kit: Kit) -> tuple[Path, Path, Path]:
    master = kit.write_tiny_model(tmp_path / "tiny.gguf", "llama")
    return master, kit.write_random_adapter(tmp_path / "adapter", read_gguf(master), size=0.1), tmp_path / "out"


def test_three_files_name_what_they_were_made_from(parts: tuple[Path, Path, Path], kit: Kit) -> None:
    master, adapter, out = parts
    manifest = export(master, adapter, out, quantise=kit.quantise_q8_0, run_id="r1")
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter.gguf",
        "export.json",
        "model.f16.gguf",
        "model.q8_0.gguf",
    ]
    assert manifest.master_hash == hash_file(master)
    assert manifest.stage("q8_0").parents == {"f16": manifest.stage("f16").file_hash}
    assert read_gguf(out / "model.q8_0.gguf").values["koboshi.parent_hash"] == manifest.master_hash
    assert read_gguf(out / "adapter.gguf").values["koboshi.run_id"] == "r1"
    assert ExportManifest.model_validate_json((out / MANIFEST).read_bytes()) == manifest


def test_a_finished_export_is_not_made_again(parts: tuple[Path, Path, Path], kit: Kit) -> None:
    master, adapter, out = parts
    stages: list[str] = []
    make = partial(export, master, adapter, out, quantise=kit.quantise_q8_0, run_id="r1", on_stage=stages.append)
    first = make()
    assert make() == first
    assert stages == ["f16", "q8_0", "adapter"]


def test_a_damaged_file_is_made_again_and_nothing_else(parts: tuple[Path, Path, Path], kit: Kit) -> None:
    master, adapter, out = parts
    first = export(master, adapter, out, quantise=kit.quantise_q8_0, run_id="r1")
    (out / "model.q8_0.gguf").write_bytes(b"GGUF")
    stages: list[str] = []
    again = export(master, adapter, out, quantise=kit.quantise_q8_0, run_id="r1", on_stage=stages.append)
    assert stages == ["q8_0"]
    assert again == first


def test_another_adapter_makes_everything_again(parts: tuple[Path, Path, Path], kit: Kit) -> None:
    master, adapter, out = parts
    first = export(master, adapter, out, quantise=kit.quantise_q8_0, run_id="r1")
    kit.write_random_adapter(adapter, read_gguf(master), size=0.2, seed=9)
    stages: list[str] = []
    again = export(master, adapter, out, quantise=kit.quantise_q8_0, run_id="r1", on_stage=stages.append)
    assert stages == ["f16", "q8_0", "adapter"]
    assert again.stage("f16").file_hash != first.stage("f16").file_hash


def test_what_a_killed_export_left_half_written_is_removed(parts: tuple[Path, Path, Path], kit: Kit) -> None:
    master, adapter, out = parts
    out.mkdir()
    (out / ".tmp-model.f16.gguf-0a1b").write_bytes(b"half")
    export(master, adapter, out, quantise=kit.quantise_q8_0, run_id="r1")
    assert not list(out.glob(".tmp-*"))


def test_a_quantisation_that_fails_leaves_no_part_of_a_file(parts: tuple[Path, Path, Path]) -> None:
    master, adapter, out = parts

    def fail(source: Path, target: Path) -> Never:
        target.write_bytes(source.read_bytes()[:1000])
        raise KoboshiError("no room")

    with pytest.raises(KoboshiError, match="no room"):
        export(master, adapter, out, quantise=fail, run_id="r1")
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.f16.gguf"]


def test_a_quantisation_that_writes_less_than_it_should_is_refused(parts: tuple[Path, Path, Path]) -> None:
    master, adapter, out = parts

    def cut(source: Path, target: Path) -> None:
        target.write_bytes(b"GGUF")

    with pytest.raises(KoboshiError):
        export(master, adapter, out, quantise=cut, run_id="r1")
    assert not (out / "model.q8_0.gguf").exists()


def _export_and_die(master: Path, adapter: Path, out: Path, quantise: Quantise, stage: str) -> None:
    def die_at(name: str) -> None:
        if name == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    export(master, adapter, out, quantise=quantise, run_id="r1", on_stage=die_at)


@pytest.mark.parametrize("stage", ["f16", "q8_0", "adapter"])
def test_an_export_that_was_killed_goes_on_where_it_stopped(
    stage: str, parts: tuple[Path, Path, Path], kit: Kit
) -> None:
    master, adapter, out = parts
    arguments = (master, adapter, out, kit.quantise_q8_0, stage)
    process = multiprocessing.get_context("fork").Process(target=_export_and_die, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stages: list[str] = []
    manifest = export(master, adapter, out, quantise=kit.quantise_q8_0, run_id="r1", on_stage=stages.append)
    assert stages == ["f16", "q8_0", "adapter"][["f16", "q8_0", "adapter"].index(stage) :]
    assert all(hash_file(out / made.file) == made.file_hash for made in manifest.stages)
