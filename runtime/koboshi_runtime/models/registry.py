"""The models of a home: files by hash, and the pointer to the one that is live.

A model is a folder `models/<hex>/` with `model.gguf` (of an adapter release `adapter.gguf`, on its base's file) and
`manifest.json`. A folder appears whole or not at all: it is filled under a temporary name, hashed while it is copied,
fsynced, compared and renamed. Sizes are checked whenever a model is resolved, whole hashes before it goes live.

No model goes live without proof: `promote` wants a gate that accepted the model against the present current. Exempt are
the first model, and models that were live before, since going back needs none.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from koboshi_tools import KoboshiError, RefusedError, UsageError, hash_file, hash_value

from ..files import TEMPORARY, locked, pieces_of, replace_file, sync_folder, temporary_name, write_new
from ..home import Home
from .manifest import GateProof, ModelManifest, ModelState, ParityProof, Release
from .pointer import Pointer, move, read_pointer

_MANIFEST = "manifest.json"
_SHORTEST_PREFIX = 8
_ADD_HINT = "Add the default model with: koboshi models add"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model of the home: `path` is the file to load, `adapter` what is applied to it, if anything."""

    manifest: ModelManifest
    state: ModelState
    path: Path
    adapter: Path | None = None


class Registry:
    """The models of one home. Reading needs no lock; every change holds one."""

    def __init__(self, home: Home) -> None:
        self._folder = home.models
        self._pointer = home.models / "current"

    def list(self) -> tuple[ModelEntry, ...]:
        """Return every model, oldest first."""
        pointer = read_pointer(self._pointer)
        found = [self._entry(path.parent, pointer) for path in self._folder.glob(f"[0-9a-f]*/{_MANIFEST}")]
        return tuple(sorted(found, key=lambda entry: (entry.manifest.created_at, entry.manifest.model_hash)))

    def current(self) -> ModelEntry:
        """Return the live model. Raises KoboshiError if there is none."""
        return self.resolve("current")

    def previous(self) -> ModelEntry | None:
        """Return the model that was live before, or None."""
        model_hash = read_pointer(self._pointer).previous
        return self.resolve(model_hash) if model_hash else None

    def resolve(self, ref: str) -> ModelEntry:
        """Return the model that `current`, `previous`, `base`, a name or a hash prefix of 8 or more names.

        Raises KoboshiError if there is none yet or its file is damaged, UsageError if `ref` names none or several.
        """
        if ref in {"current", "previous", "base"}:
            return self._sized(self._by_role(ref))
        entries = self.list()
        found = [entry for entry in entries if _matches(entry.manifest, ref)]
        if len(found) == 1:
            return self._sized(found[0])
        if not found:
            hint = "See: koboshi models list" if entries else _ADD_HINT
            raise UsageError(f"no model is called {ref!r}", hint=hint)
        several = ", ".join(f"{entry.manifest.name} {short(entry.manifest.model_hash)}" for entry in found)
        raise UsageError(f"{ref!r} names {len(found)} models: {several}", hint="Give more of the hash.")

    def register(self, file: Path, manifest: ModelManifest) -> ModelEntry:
        """Copy `file` into the home as a candidate, or as current if it is the first; a known model is kept as it is.

        Of an adapter release `file` is the adapter. Raises KoboshiError if its content is not what the manifest says.
        """
        with self._changing() as pointer:
            folder = self._folder_of(manifest.model_hash)
            if not (folder / _MANIFEST).exists():
                self._fill(folder, file, manifest)
            if pointer.current is None:
                pointer = self._move(pointer, pointer.with_current(manifest.model_hash))
            return self._entry(folder, pointer)

    def attach(
        self, model_hash: str, *, gate: GateProof | None = None, parity: ParityProof | None = None
    ) -> ModelEntry:
        """Add proofs to a model's manifest."""
        changes = {name: proof for name, proof in (("gate", gate), ("parity", parity)) if proof}
        with self._changing() as pointer:
            entry = self._entry(self._folder_of(model_hash), pointer)
            replace_file(self._folder_of(model_hash) / _MANIFEST, _text(entry.manifest.model_copy(update=changes)))
            return self._entry(self._folder_of(model_hash), pointer)

    def promote(self, ref: str) -> ModelEntry:
        """Make a model live. Raises RefusedError without proof, KoboshiError if its file is damaged."""
        entry = self.resolve(ref)
        self.verify(entry)
        with self._changing() as pointer:
            _refuse_unproved(entry.manifest, pointer)
            return self._go_live(entry, pointer)

    def newest_served(self) -> str | None:
        """Return the hash of the model that went live for the first time last, or None."""
        return next(reversed(read_pointer(self._pointer).served), None)

    def rollback(self, *, away_from: str | None = None) -> ModelEntry:
        """Make the previous model live again, and the current one previous; returns the model that is live then.

        With `away_from` nothing changes unless that hash is live. Raises KoboshiError if there is no previous model.
        """
        with self._changing() as pointer:
            if away_from not in {None, pointer.current}:
                return self.resolve("current")
            entry = self.resolve("previous")
            self.verify(entry)
            return self._go_live(entry, pointer)

    def retire(self, model_hash: str) -> None:
        """Set a refused candidate aside."""
        with self._changing() as pointer:
            self._move(pointer, pointer.with_retired(model_hash))

    def remove(self, model_hash: str) -> None:
        """Delete a model's files. Raises KoboshiError if it is current, previous, or the base of another."""
        with self._changing() as pointer:
            if model_hash in (pointer.current, pointer.previous):
                raise KoboshiError(f"{short(model_hash)} is live, or was before that, and is not removed")
            others = [e.manifest for e in self.list() if e.manifest.model_hash != model_hash]
            if made := [manifest.name for manifest in others if manifest.parents.base == model_hash]:
                raise KoboshiError(f"{short(model_hash)} is the base of {made[0]}, and is not removed")
            folder = self._folder_of(model_hash)
            gone = temporary_name(folder)
            folder.rename(gone)
            shutil.rmtree(gone)
            sync_folder(self._folder)

    def verify(self, entry: ModelEntry) -> None:
        """Read a model's files whole. Raises KoboshiError if a hash differs."""
        manifest = entry.manifest
        if entry.adapter is None:
            _compare(entry.path, manifest.model_hash, hash_file(entry.path))
            return
        _compare(entry.path, str(manifest.parents.base), hash_file(entry.path))
        _compare(entry.adapter, str(manifest.adapter_hash), hash_file(entry.adapter))

    def _by_role(self, role: str) -> ModelEntry:
        pointer = read_pointer(self._pointer)
        model_hash = pointer.previous if role == "previous" else pointer.current
        if model_hash is None:
            hint = "See: koboshi models list" if pointer.current else _ADD_HINT
            raise KoboshiError(f"there is no {'previous' if role == 'previous' else 'current'} model", hint=hint)
        entry = self._entry(self._folder_of(model_hash), pointer)
        if role == "base" and entry.manifest.parents.base:
            return self._entry(self._folder_of(entry.manifest.parents.base), pointer)
        return entry

    def _entry(self, folder: Path, pointer: Pointer) -> ModelEntry:
        path = folder / _MANIFEST
        try:
            manifest = ModelManifest.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise UsageError(f"the home holds no model {folder.name[:12]}", hint="See: koboshi models list") from error
        except ValidationError as error:
            raise KoboshiError(f"{path} does not parse: {error.errors()[0]['msg']}") from error
        state = pointer.state_of(manifest.model_hash)
        if manifest.release is Release.MERGED:
            return ModelEntry(manifest, state, folder / "model.gguf")
        base = self._folder_of(str(manifest.parents.base)) / "model.gguf"
        return ModelEntry(manifest, state, base, adapter=folder / "adapter.gguf")

    def _sized(self, entry: ModelEntry) -> ModelEntry:
        own = entry.adapter or entry.path
        found = own.stat().st_size if own.exists() else None
        if found != entry.manifest.bytes or not entry.path.exists():
            raise KoboshiError(
                f"{own} has {found} bytes, its manifest says {entry.manifest.bytes}",
                hint=f"Remove {own.parent} and add the model again from {entry.manifest.source}.",
            )
        return entry

    def _fill(self, folder: Path, file: Path, manifest: ModelManifest) -> None:
        if manifest.release is Release.ADAPTER:
            expected, name = str(manifest.adapter_hash), "adapter.gguf"
            _compare(file, adapter_release_hash(str(manifest.parents.base), expected), manifest.model_hash)
        else:
            expected, name = manifest.model_hash, "model.gguf"
        part = temporary_name(folder)
        part.mkdir(mode=0o700)
        try:
            _compare(file, expected, _copy(file, part / name))
            replace_file(part / _MANIFEST, _text(manifest))
            part.replace(folder)
        except BaseException:
            shutil.rmtree(part)
            raise
        sync_folder(self._folder)

    def _go_live(self, entry: ModelEntry, pointer: Pointer) -> ModelEntry:
        pointer = self._move(pointer, pointer.with_current(entry.manifest.model_hash))
        return self._entry(self._folder_of(entry.manifest.model_hash), pointer)

    def _move(self, old: Pointer, new: Pointer) -> Pointer:
        move(self._pointer, old, new)
        return new

    def _folder_of(self, model_hash: str) -> Path:
        return self._folder / model_hash.removeprefix("sha256:")

    @contextmanager
    def _changing(self) -> Iterator[Pointer]:
        with locked(self._folder / ".lock"):
            for leftover in self._folder.glob(f"{TEMPORARY}*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            yield read_pointer(self._pointer)


def adapter_release_hash(base_hash: str, adapter_hash: str) -> str:
    """Return the model hash of an adapter applied to a base file."""
    return hash_value({"adapter": adapter_hash, "base": base_hash})


def short(model_hash: str) -> str:
    """Return a hash as people see it."""
    return model_hash.removeprefix("sha256:")[:12]


def _matches(manifest: ModelManifest, ref: str) -> bool:
    prefix = ref.removeprefix("sha256:")
    whole = manifest.model_hash.removeprefix("sha256:")
    return manifest.name == ref or (len(prefix) >= _SHORTEST_PREFIX and whole.startswith(prefix))


def _refuse_unproved(manifest: ModelManifest, pointer: Pointer) -> None:
    if pointer.current is None or manifest.model_hash in (pointer.current, *pointer.served):
        return
    gate, parity = manifest.gate, manifest.parity
    reason = None
    if parity is not None and not parity.passed:
        reason = "its file is not the model that was trained (parity failed)"
    elif gate is None:
        reason = "no gate has judged it"
    elif not gate.accepted:
        reason = "the gate refused it"
    elif gate.against != pointer.current:
        reason = f"its gate was against {short(gate.against)}, and {short(pointer.current)} is live now"
    if reason:
        raise RefusedError(f"{manifest.name} does not go live: {reason}", hint="Judge it with: koboshi train gate")


def _copy(source: Path, target: Path) -> str:
    with source.open("rb") as reading:
        return write_new(pieces_of(reading), target)


def _compare(path: Path, expected: str, found: str) -> None:
    if found != expected:
        raise KoboshiError(f"{path} has the hash {found}, and {expected} was expected", hint="Get the file again.")


def _text(manifest: ModelManifest) -> bytes:
    return manifest.model_dump_json(indent=2).encode() + b"\n"
