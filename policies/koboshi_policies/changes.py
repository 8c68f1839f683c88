"""How a `modify` rule changes the arguments of a call: some left out, some set, some brought within bounds.

A change is written in the rule and computed by nothing else, so that a replay makes the same one. An argument that is
to be brought within bounds and is no number raises ValueError, which fails the rule, and that denies.
"""

import math
from typing import Any

from pydantic import Field, model_validator

from koboshi_tools import Frozen


class Bounds(Frozen):
    """The least and the greatest value that an argument is brought to."""

    min: int | float | None = Field(default=None, allow_inf_nan=False)
    max: int | float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _are_bounds(self) -> "Bounds":
        if self.min is None and self.max is None:
            raise ValueError("bounds are empty: write min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def clamp(self, value: Any) -> Any:
        """Return the nearest value within the bounds; a value that lies there stays as it is written."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{value!r:.80} is not a number")
        if self.min is not None and value < self.min:
            return self.min
        return self.max if self.max is not None and value > self.max else value


class Changes(Frozen):
    """What a rule does to arguments; an argument that the call leaves out is set, and neither dropped nor clamped."""

    drop: tuple[str, ...] = ()
    set: dict[str, Any] = Field(default_factory=dict)
    clamp: dict[str, Bounds] = Field(default_factory=dict)

    def apply(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the changed arguments. Raises ValueError."""
        kept = {name: value for name, value in arguments.items() if name not in self.drop} | self.set
        return {name: self.clamp[name].clamp(value) if name in self.clamp else value for name, value in kept.items()}
