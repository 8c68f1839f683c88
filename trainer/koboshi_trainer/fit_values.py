"""What a fit is told, what it reports on the way, and what it says in the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from koboshi_tools import Frozen

from .identity import LATER, identity

WITHOUT_CONTRAST = {"contrast": 0.0, "contrast_from": 0.0, "failure_likelihood": 1.0, "ranking": 0.0}
"""What a fit without contrast has of the settings that say how it contrasts."""


class PreferenceSettings(Frozen):
    """Which loss, how far a row may move (`beta`), and the weights of wanted and unwanted rows."""

    kind: Literal["kto", "apo_zero_unpaired"] = "kto"
    beta: float = Field(default=0.1, gt=0)
    good_weight: float = Field(default=1.0, gt=0)
    bad_weight: float = Field(default=1.0, gt=0)


class FitSettings(Frozen):
    """How to train; `optimizer_steps` or `max_tokens` (of rows, prefixes counted) end the fit instead of `epochs`.

    A fit that is bounded by `epochs` goes on to `least_steps` optimizer steps, at most for twice as many epochs.
    `dtype` auto takes whichever of bf16 and fp32 multiplies faster, `device` auto the first CUDA device if there is
    one, else the processor. `micro_tokens` bounds the positions computed together, and so the memory: about 0.65 GB
    for each 1,000 of a 135M model; `checkpointing` keeps only each layer's input and computes the rest again for the
    gradient, and `four_bit` holds the frozen weights in NF4. `processes` share each optimizer batch, on CUDA a device
    for each; on processors that gains nothing. `contrast` is the weight of the loss that tells a run's condition from
    the run, beside the cross-entropy of the learnt ids, which for failures is multiplied by `failure_likelihood`; it
    begins when the part `contrast_from` of the steps is done, and so does `ranking`, the weight of the loss by which a
    success is to gain more likelihood than a failed run of its task. With `preference` the loss is that instead.
    """

    r: int = Field(default=32, ge=1)
    alpha: float = Field(default=64.0, gt=0)
    learning_rate: float = Field(default=3e-4, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    optimizer_steps: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    batch_rows: int = Field(default=16, ge=1)
    micro_tokens: int = Field(default=1536, ge=1)
    warmup: float = Field(default=0.03, ge=0, lt=1)
    final_learning_rate: float = Field(default=0.0, ge=0, le=1, description="as a part of learning_rate")
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    tasks_together: bool = False
    share_prefix: bool = True
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    seed: int = 0
    checkpoint_every: int = Field(default=10, ge=1, description="optimizer steps")
    evaluate_every: int | None = Field(default=None, ge=1, description="optimizer steps; None: only before and after")
    patience: int | None = Field(default=None, ge=1, description="evaluations without a better held-out loss")
    preference: PreferenceSettings | None = None
    least_steps: Annotated[int, LATER] = Field(default=1, ge=1)
    contrast: Annotated[float, LATER] = Field(default=0.0, ge=0)
    contrast_from: Annotated[float, LATER] = Field(default=0.0, ge=0, lt=1, description="as a part of the steps")
    failure_likelihood: Annotated[float, LATER] = Field(default=1.0, ge=0, le=1)
    ranking: Annotated[float, LATER] = Field(default=0.0, ge=0)
    checkpointing: Annotated[bool, LATER] = False
    four_bit: Annotated[bool, LATER] = False
    device: Annotated[str, LATER] = "auto"
    processes: Annotated[int, LATER] = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_loss(self) -> Self:
        if self.preference is not None and self.contrast:
            raise ValueError("give either preference or contrast: a preference knows no conditions")
        if self.failure_likelihood != 1 and not self.contrast:
            raise ValueError("failure_likelihood is for a fit with contrast: give that too, or failure_weight")
        if self.contrast_from and not self.contrast:
            raise ValueError("contrast_from is for a fit with contrast: give that too")
        if self.ranking and not (self.contrast and self.tasks_together):
            raise ValueError("ranking is for a fit with contrast and tasks_together: give both too")
        return self

    def without_contrast(self) -> Self:
        """Return the same fit by likelihood alone."""
        return self.model_copy(update=WITHOUT_CONTRAST)

    def identity(self) -> dict[str, Any]:
        """Return what tells fits apart; without a preference, what it was before there were any."""
        told = identity(self)
        return told if self.preference else {name: value for name, value in told.items() if name != "preference"}


@dataclass(frozen=True, slots=True)
class FitProgress:
    """Told after each optimizer step; `loss` is per learnt id, natural logarithm."""

    optimizer_step: int
    optimizer_steps: int
    loss: float
    seconds: float
    remaining_s: float


OnProgress = Callable[[FitProgress], None]


class FitReport(Frozen):
    """What a fit did, and whether it learnt at all. Losses are per learnt id, natural logarithm.

    `held_out_before` and `held_out_after` are by the names that the caller gave its held-out rows. `label_mix` counts
    the rows of each class. `tokens` counts each row's ids and its prefix, `computed_tokens` the positions that were
    really computed. `kept_step` is the optimizer step whose adapter was kept.
    """

    fit_hash: str
    optimizer_steps: int
    kept_step: int
    rows: int
    label_mix: dict[str, int]
    tokens: int
    computed_tokens: int
    learnt_tokens: int
    seconds: float
    tokens_per_s: float
    dtype: str
    loss_first: float
    loss_last: float
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    held_out_before: dict[str, float]
    held_out_after: dict[str, float]
    stopped_early: bool
    update_norm: float
    settings: FitSettings
