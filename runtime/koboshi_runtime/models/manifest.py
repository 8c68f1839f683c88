"""What is known of a model that the home holds, and the lives it may lead.

A manifest is written once, beside the file; only its proofs are added later. It names its parents by hash, so that each
model can be followed back to the file it was made from.
"""

from enum import StrEnum
from typing import Any

from koboshi_tools import Frozen

from ..model import PromptProfile

# Those whose export was proved against torch; the trainer's table says how each is laid out.
TRAINABLE_ARCHITECTURES = ("llama", "gemma3", "qwen2", "qwen3")

# llama.cpp's `llama_ftype`, as the header's `general.file_type` holds it.
_FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
}


class ModelState(StrEnum):
    """Where a model stands; `TRANSITIONS` says what may follow."""

    CANDIDATE = "candidate"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"


TRANSITIONS: dict[ModelState, frozenset[ModelState]] = {
    ModelState.CANDIDATE: frozenset({ModelState.CURRENT, ModelState.RETIRED}),
    ModelState.CURRENT: frozenset({ModelState.PREVIOUS}),
    ModelState.PREVIOUS: frozenset({ModelState.CURRENT, ModelState.RETIRED}),
    ModelState.RETIRED: frozenset({ModelState.CURRENT}),
}


class Release(StrEnum):
    """The form of a trained model: a file of its own, or an adapter on the file of its base."""

    MERGED = "merged"
    ADAPTER = "adapter"


class Parents(Frozen):
    """Hashes of what a model was made from; all None for a file from outside."""

    base: str | None = None
    master: str | None = None
    dataset: str | None = None
    adapter: str | None = None


class GateProof(Frozen):
    """What the gate said: of which model this one was proved the better, and the whole verdict."""

    accepted: bool
    against: str
    verdict: dict[str, Any]


class ParityProof(Frozen):
    """Whether the file is the model that was trained, and every number of the comparison."""

    passed: bool
    report: dict[str, Any]


class ModelManifest(Frozen):
    """One model.

    `model_hash` is that of the file; of an adapter release that of the pair (`registry.adapter_release_hash`).
    `context_tokens` is the longest sequence it was trained on, `bytes` the size of the file that is its own.
    """

    model_hash: str
    name: str
    architecture: str
    quantization: str
    bytes: int
    context_tokens: int
    source: str
    created_at: str
    profile: PromptProfile
    parents: Parents = Parents()
    release: Release = Release.MERGED
    adapter_hash: str | None = None
    gate: GateProof | None = None
    parity: ParityProof | None = None

    @property
    def trainable(self) -> bool:
        """Whether its export was proved, so that koboshi may train it."""
        return self.architecture in TRAINABLE_ARCHITECTURES

    @property
    def trainable_reason(self) -> str:
        """Why it may be trained, or may not."""
        if self.trainable:
            return f"the export of {self.architecture} was proved"
        return f"the export of {self.architecture} was not proved; only {', '.join(TRAINABLE_ARCHITECTURES)} were"


def quantization_name(file_type: int | None) -> str:
    """Return the usual name of a header's file type, such as `Q8_0`."""
    return "unknown" if file_type is None else _FILE_TYPES.get(file_type, f"type {file_type}")
