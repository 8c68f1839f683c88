import os
from collections.abc import Callable
from pathlib import Path

import pytest

from koboshi_runtime.home import Home, open_home
from koboshi_runtime.model import PromptProfile
from koboshi_runtime.models.manifest import (
    TRAINABLE_ARCHITECTURES,
    GateProof,
    ModelManifest,
    ModelState,
    Parents,
    ParityProof,
    Release,
)
from koboshi_runtime.models.registry import ModelEntry, Registry, adapter_release_hash
from koboshi_tools import KoboshiError, RefusedError, UsageError, hash_file

Add = Callable[..., ModelEntry]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


@pytest.fixture
def add(home: Home, tmp_path: Path) -> Add:
    """Registers a small file under a name, with any changes to its manifest."""

    def register(name: str, content: bytes | None = None, **changes: object) -> ModelEntry:
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(content or name.encode())
        manifest = ModelManifest(
            model_hash=hash_file(file),
            name=name,
            architecture="llama",
            quantization="Q8_0",
            bytes=file.stat().st_size,
            context_tokens=2048,
            source=str(file),
            created_at=f"2026-01-01T00:00:{len(Registry(home).list()):02}+00:00",
            profile=PromptProfile(template="chatml", tool_format="hermes"),
        )
        return Registry(home).register(file, manifest.model_copy(update=changes))

    return register


def _states(home: Home) -> dict[str, str]:
    return {entry.manifest.name: entry.state.value for entry in Registry(home).list()}


def _proof(against: ModelEntry, accepted: bool = True) -> GateProof:
    return GateProof(accepted=accepted, against=against.manifest.model_hash, verdict={})


def test_the_first_model_goes_live_and_the_next_is_a_candidate(home: Home, add: Add) -> None:
    add("one")
    add("two")
    assert _states(home) == {"one": "current", "two": "candidate"}


def test_a_registered_file_is_private_and_byte_for_byte_the_source(home: Home, add: Add) -> None:
    entry = add("one", b"weights")
    assert entry.path.read_bytes() == b"weights"
    assert {path.stat().st_mode & 0o777 for path in home.models.rglob("*") if path.is_file()} == {0o600}


def test_a_file_that_differs_from_its_manifest_leaves_no_trace(home: Home, add: Add) -> None:
    with pytest.raises(KoboshiError, match="was expected"):
        add("one", model_hash="sha256:" + "0" * 64)
    assert Registry(home).list() == ()
    assert [path.name for path in home.models.iterdir()] == [".lock"]


def test_a_known_model_is_kept_as_it_is(home: Home, add: Add) -> None:
    add("one")
    add("two", b"one")
    assert _states(home) == {"one": "current"}


def test_leftovers_of_a_killed_registration_are_removed_by_the_next(home: Home, add: Add) -> None:
    leftover = home.models / ".tmp-abc-1"
    leftover.mkdir()
    (leftover / "model.gguf").write_bytes(b"half")
    add("one")
    assert not leftover.exists()


@pytest.mark.parametrize("ref", ["current", "base", "one", "HASH", "PREFIX"])
def test_every_form_of_reference_finds_the_model(home: Home, add: Add, ref: str) -> None:
    model_hash = add("one").manifest.model_hash
    wanted = {"HASH": model_hash, "PREFIX": model_hash.removeprefix("sha256:")[:8]}.get(ref, ref)
    assert Registry(home).resolve(wanted).manifest.name == "one"


def test_a_prefix_shorter_than_eight_finds_nothing(home: Home, add: Add) -> None:
    prefix = add("one").manifest.model_hash.removeprefix("sha256:")[:7]
    with pytest.raises(UsageError, match="no model is called"):
        Registry(home).resolve(prefix)


def test_a_name_that_two_models_have_lists_both(home: Home, add: Add) -> None:
    add("one", b"a")
    add("one", b"b")
    with pytest.raises(UsageError, match="names 2 models"):
        Registry(home).resolve("one")


def test_an_empty_home_says_how_to_add_the_default_model(home: Home) -> None:
    with pytest.raises(KoboshiError, match="no current model") as caught:
        Registry(home).current()
    assert caught.value.hint == "Add the default model with: koboshi models add"
    assert caught.value.exit_code == 1
    assert Registry(home).previous() is None


def test_base_is_the_origin_of_the_current_model(home: Home, add: Add) -> None:
    origin = add("one")
    trained = add("two", parents=Parents(base=origin.manifest.model_hash), gate=_proof(origin))
    Registry(home).promote("two")
    assert Registry(home).current() == Registry(home).resolve(trained.manifest.model_hash)
    assert Registry(home).resolve("base").manifest.name == "one"


def test_no_candidate_goes_live_without_a_gate(home: Home, add: Add) -> None:
    add("one")
    add("two")
    with pytest.raises(RefusedError, match="no gate has judged it"):
        Registry(home).promote("two")
    assert _states(home) == {"one": "current", "two": "candidate"}


def test_a_refusal_of_the_gate_holds(home: Home, add: Add) -> None:
    add("two", gate=_proof(add("one"), accepted=False))
    with pytest.raises(RefusedError, match="the gate refused it"):
        Registry(home).promote("two")


def test_a_file_that_failed_parity_does_not_go_live(home: Home, add: Add) -> None:
    add("two", gate=_proof(add("one")), parity=ParityProof(passed=False, report={}))
    with pytest.raises(RefusedError, match="parity failed"):
        Registry(home).promote("two")


def test_a_gate_against_a_model_that_is_no_longer_live_does_not_count(home: Home, add: Add) -> None:
    first = add("one")
    add("two", gate=_proof(first))
    add("three", gate=_proof(first))
    Registry(home).promote("two")
    with pytest.raises(RefusedError, match="its gate was against"):
        Registry(home).promote("three")


def test_a_proof_may_be_attached_later(home: Home, add: Add) -> None:
    first, second = add("one"), add("two")
    Registry(home).attach(second.manifest.model_hash, gate=_proof(first), parity=ParityProof(passed=True, report={}))
    assert Registry(home).promote("two").state is ModelState.CURRENT


def test_promotions_walk_a_model_to_retirement_and_it_may_come_back(home: Home, add: Add) -> None:
    add("two", gate=_proof(add("one")))
    two = Registry(home).promote("two")
    add("three", gate=_proof(two))
    Registry(home).promote("three")
    assert _states(home) == {"one": "retired", "two": "previous", "three": "current"}
    Registry(home).promote("one")
    assert _states(home) == {"one": "current", "two": "retired", "three": "previous"}


def test_rollback_swaps_with_the_previous_model(home: Home, add: Add) -> None:
    add("two", gate=_proof(add("one")))
    Registry(home).promote("two")
    assert Registry(home).rollback().manifest.name == "one"
    assert _states(home) == {"one": "current", "two": "previous"}


def test_rollback_without_a_previous_model_changes_nothing(home: Home, add: Add) -> None:
    add("one")
    with pytest.raises(KoboshiError, match="no previous model"):
        Registry(home).rollback()


def test_a_truncated_file_is_refused_when_it_is_resolved(home: Home, add: Add) -> None:
    entry = add("one", b"weights")
    os.truncate(entry.path, 3)
    with pytest.raises(KoboshiError, match="has 3 bytes, its manifest says 7"):
        Registry(home).current()


def test_a_flipped_byte_keeps_a_model_from_going_live(home: Home, add: Add) -> None:
    entry = add("two", b"weights", gate=_proof(add("one")))
    entry.path.write_bytes(b"weightz")
    with pytest.raises(KoboshiError, match="was expected"):
        Registry(home).promote("two")
    assert _states(home)["one"] == "current"


def test_a_damaged_current_model_does_not_stand_in_the_way_of_rollback(home: Home, add: Add) -> None:
    add("two", gate=_proof(add("one")))
    two = Registry(home).promote("two")
    (two.path.parent / "manifest.json").write_bytes(b"{")
    assert Registry(home).rollback().manifest.name == "one"


def test_a_refused_candidate_is_set_aside_and_a_live_model_cannot_be(home: Home, add: Add) -> None:
    one, two = add("one"), add("two")
    Registry(home).retire(two.manifest.model_hash)
    assert _states(home)["two"] == "retired"
    with pytest.raises(KoboshiError, match="only a candidate"):
        Registry(home).retire(one.manifest.model_hash)


def test_a_damaged_pointer_is_named(home: Home, add: Add) -> None:
    add("one")
    (home.models / "current").write_bytes(b"{")
    with pytest.raises(KoboshiError, match="does not parse"):
        Registry(home).current()


def test_an_adapter_release_loads_its_bases_file_and_checks_both(home: Home, add: Add) -> None:
    base = add("one", b"base").manifest.model_hash
    adapter = Path(add("spare", b"adapter").path)
    changes = {
        "model_hash": adapter_release_hash(base, hash_file(adapter)),
        "adapter_hash": hash_file(adapter),
        "release": Release.ADAPTER,
        "parents": Parents(base=base),
    }
    entry = add("two", b"adapter", **changes)
    assert (entry.path.read_bytes(), entry.adapter and entry.adapter.read_bytes()) == (b"base", b"adapter")
    Registry(home).verify(entry)
    entry.path.write_bytes(b"bade")
    with pytest.raises(KoboshiError, match="was expected"):
        Registry(home).verify(entry)


def test_the_runtime_and_the_trainer_agree_on_what_may_be_trained() -> None:
    architectures = pytest.importorskip("koboshi_trainer.architectures")
    assert set(architectures.ARCHITECTURES) == set(TRAINABLE_ARCHITECTURES)
