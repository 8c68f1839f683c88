"""Bring an exported model into the registry, and let it go live if it was proved the better.

A refused candidate is kept, retired, with its verdict: a refusal is a result too. What is live changes by one atomic
replacement of the registry's pointer, and the registry itself refuses a model without proof.
"""

from pathlib import Path

from koboshi_runtime.ids import utc_now
from koboshi_runtime.models.manifest import GateProof, ModelManifest, Parents, ParityProof
from koboshi_runtime.models.registry import ModelEntry

from .export import ExportManifest
from .gate.values import GateVerdict
from .parity import ParityReport
from .workshop import Workshop


def register_candidate(
    workshop: Workshop, base: ModelEntry, folder: Path, *, name: str, dataset_hash: str, parity: ParityReport
) -> ModelEntry:
    """Register the Q8_0 file of the export in `folder` as a candidate; one that is registered already is returned."""
    exported = ExportManifest.model_validate_json((folder / "export.json").read_bytes())
    stage = exported.stage("q8_0")
    file = folder / stage.file
    manifest = ModelManifest(
        model_hash=stage.file_hash,
        name=name,
        architecture=base.manifest.architecture,
        quantization="Q8_0",
        bytes=file.stat().st_size,
        context_tokens=base.manifest.context_tokens,
        source=f"trained from {base.manifest.name}",
        created_at=utc_now(),
        profile=workshop.learner_profile(base),
        parents=Parents(
            base=base.manifest.model_hash,
            master=exported.master_hash,
            dataset=dataset_hash,
            adapter=exported.adapter_hash,
        ),
        parity=ParityProof(passed=parity.passed, report=parity.model_dump(mode="json")),
    )
    entry = workshop.registry.register(file, manifest)
    record(workshop, entry)
    return entry


def decide(workshop: Workshop, current: ModelEntry, candidate: ModelEntry, verdict: GateVerdict) -> bool:
    """Attach the verdict to the candidate, and promote or retire it; returns whether it is live now."""
    model_hash = candidate.manifest.model_hash
    proof = GateProof(
        accepted=verdict.accepted, against=current.manifest.model_hash, verdict=verdict.model_dump(mode="json")
    )
    workshop.registry.attach(model_hash, gate=proof)
    if verdict.accepted:
        workshop.registry.promote(model_hash)
        record(workshop, workshop.registry.resolve(current.manifest.model_hash))
    else:
        workshop.registry.retire(model_hash)
    record(workshop, workshop.registry.resolve(model_hash))
    return verdict.accepted


def refuse(workshop: Workshop, candidate: ModelEntry) -> None:
    """Set aside a candidate that did not come as far as the gate."""
    workshop.registry.retire(candidate.manifest.model_hash)
    record(workshop, workshop.registry.resolve(candidate.manifest.model_hash))


def record(workshop: Workshop, entry: ModelEntry) -> None:
    """Write a model with its state into the trace store, beside the runs that name it."""
    manifest = entry.manifest
    workshop.store.record_model(
        manifest.model_hash,
        name=manifest.name,
        profile=manifest.profile,
        manifest=manifest.model_dump(mode="json"),
        state=entry.state.value,
    )
