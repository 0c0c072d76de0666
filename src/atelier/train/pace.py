"""The learning rate's course over a run: a warm-up, and what comes after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atelier.train.recipe import Optim, Schedule


@dataclass(frozen=True, slots=True)
class Pace:
    """Linear warm-up over `warmup` steps, then the schedule.

    "cooldown" is constant, then falls as 1 - sqrt over the last `cooldown` steps: being constant in between, a run can
    be made longer from any checkpoint before (Hägele et al. 2024, arXiv:2405.18392). Of the others, "linear", "cosine",
    "cosine_restarts" (in `cycles`) and "polynomial" (of `power`) fall to `floor` of the rate at the end of the run.
    """

    steps: int
    warmup: int
    cooldown: int = 0
    schedule: Schedule = "cooldown"
    cycles: int = 1
    power: float = 1.0
    floor: float = 0.0

    @property
    def constant_until(self) -> int:
        """How many steps are made before the cool-down."""
        return self.steps - self.cooldown

    def factor(self, step: int) -> float:
        """What to multiply the recipe's rate with at `step`, in [0, 1]."""
        up = min(1.0, (step + 1) / max(self.warmup, 1))
        return up * COURSES[self.schedule](self, step)

    def progress(self, step: int) -> float:
        """The share of the steps after the warm-up that lie behind, in [0, 1]."""
        return min(1.0, max(0, step - self.warmup) / max(1, self.steps - self.warmup))

    def above_floor(self, height: float) -> float:
        return self.floor + (1 - self.floor) * height


def pace(optim: Optim, steps: int) -> Pace:
    """The course that a recipe asks for over so many steps."""
    warmup = optim.warmup if optim.warmup >= 1 else optim.warmup * steps
    cooldown = int(steps * optim.cooldown) if optim.schedule == "cooldown" else 0
    return Pace(steps, int(warmup), cooldown, optim.schedule, optim.cycles, optim.power, optim.floor)


def _constant(_pace: Pace, _step: int) -> float:
    return 1.0


def _cooldown(pace: Pace, step: int) -> float:
    past = step - pace.constant_until
    return 1.0 if past < 0 else max(0.0, 1.0 - math.sqrt((past + 1) / (pace.cooldown + 1)))


def _linear(pace: Pace, step: int) -> float:
    return pace.above_floor(1 - pace.progress(step))


def _polynomial(pace: Pace, step: int) -> float:
    return pace.above_floor((1 - pace.progress(step)) ** pace.power)


def _cosine(pace: Pace, step: int) -> float:
    return pace.above_floor((1 + math.cos(math.pi * pace.progress(step))) / 2)


def _cosine_restarts(pace: Pace, step: int) -> float:
    """Loshchilov 2017 (arXiv:1608.03983), equation 5, with cycles of one length."""
    turns = pace.cycles * pace.progress(step)
    return pace.above_floor((1 + math.cos(math.pi * (turns % 1))) / 2 if turns < pace.cycles else 0.0)


def _inverse_sqrt(pace: Pace, step: int) -> float:
    """Vaswani 2017 (arXiv:1706.03762), equation 3, as a share of its highest; without a warm-up from step 10,000 on."""
    scale = pace.warmup or 10_000
    return 1 / math.sqrt(1 + max(0, step - pace.warmup) / scale)


COURSES: Mapping[Schedule, Callable[[Pace, int], float]] = {
    "cooldown": _cooldown,
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_restarts": _cosine_restarts,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
}
