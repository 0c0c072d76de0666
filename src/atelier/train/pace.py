"""The learning rate's course: warm up, stay, cool down."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Linear warm-up over `warmup` steps, constant, then a 1 - sqrt cool-down over the last `cooldown` steps.

    Being constant in between, a run can be made longer from any checkpoint before its cool-down began
    (Hägele et al. 2024, arXiv:2405.18392).
    """

    steps: int
    warmup: int
    cooldown: int

    @property
    def constant_until(self) -> int:
        """How many steps are made before the cool-down."""
        return self.steps - self.cooldown

    def factor(self, step: int) -> float:
        """What to multiply the recipe's rate with at `step`, in [0, 1]."""
        up = min(1.0, (step + 1) / max(self.warmup, 1))
        past = step - self.constant_until
        if past < 0:
            return up
        return up * max(0.0, 1.0 - math.sqrt((past + 1) / (self.cooldown + 1)))
