"""What every schedule shares: its entry in the catalogue, its options, and how a run's sigmas are made from it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from atelier.diffusion.types import Levels, Schedule
from atelier.errors import BadInput
from atelier.limits import BETA_SHAPE, CALLS

Table = Literal["sd1", "sdxl"]
"""Families for which schedules were published as tables."""
SMALLEST = 1e-4
"""Of sigmas and exponents: below, powers and quotients leave the range of numbers."""
LARGEST = 1e6
"""Of sigmas in a list: far above any model's, and their powers are still numbers."""


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """The knobs of all schedules; a schedule reads those that its spec lists in `uses` and ignores the others.

    sigma_min, sigma_max: the range, None = the model's. rho: the exponent, None = the schedule's own.
    alpha, beta: the shape of the beta distribution, 0.01 to 100. table: which family's table, for schedules that are
    tables.
    """

    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None
    table: Table = "sd1"
    alpha: float = 0.6
    beta: float = 0.6

    def __post_init__(self) -> None:
        for name in ("sigma_min", "sigma_max", "rho"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= SMALLEST):
                raise BadInput(f"schedule option {name} is {value}: use {SMALLEST:g} or more, or leave it out")
        low, high = BETA_SHAPE
        for name in ("alpha", "beta"):
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"schedule option {name} is {getattr(self, name)}: use {low} to {high}")

    def span(self, levels: Levels) -> tuple[float, float]:
        """(largest, smallest) sigma. Raises BadInput if they are not in that order."""
        high, low = self.sigma_max or levels.sigma_max, self.sigma_min or levels.sigma_min
        if low >= high:
            raise BadInput(f"sigma_min {low:g} is not below sigma_max {high:g}: give them the other way round")
        return high, low


SCHEDULE_DEFAULTS = ScheduleOptions()


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A schedule's entry: its names, the options it reads, and how to make it.

    exact: n steps give n+1 sigmas; otherwise the number may differ, as in the program it comes from.
    to_zero: the last sigma is 0; otherwise it is the model's smallest. steps: how many there are whatever is asked for,
    of a list of sigmas given by hand. rho: the exponent where nobody says another.
    """

    name: str
    make: Callable[[ScheduleOptions], Schedule]
    aliases: tuple[str, ...] = ()
    uses: frozenset[str] = frozenset()
    exact: bool = True
    to_zero: bool = True
    steps: int | None = None
    rho: float = 1.0


RANGE = frozenset({"sigma_min", "sigma_max"})
SHAPE = frozenset({"alpha", "beta"})


def run_sigmas(schedule: Schedule, levels: Levels, steps: int, *, discard: bool = False) -> Tensor:
    """The sigmas of a run, float32, descending, (steps + 1,) but for schedules that count otherwise.

    discard: make one step more and leave out the next-to-last sigma. Raises BadInput for steps outside 1 to 10,000.
    """
    least, most = CALLS
    if not least <= steps <= most:
        raise BadInput(f"{steps} steps: use {least} to {most}")
    sigmas = schedule(levels, steps + discard)
    return torch.cat([sigmas[:-2], sigmas[-1:]]) if discard and len(sigmas) > 2 else sigmas


def to_zero(sigmas: Tensor) -> Tensor:
    """Positive sigmas (n,) in any precision -> float32 (n+1,), ending in 0."""
    return torch.cat([sigmas.float(), torch.zeros(1)])


def ramp(start: float, end: float, count: int) -> Tensor:
    """`count` equally spaced numbers from start to end, float64; of one, the start."""
    return torch.linspace(start, end, count, dtype=torch.float64)


def time_span(options: ScheduleOptions, levels: Levels) -> tuple[float, float]:
    """The times of the largest and of the smallest level, within the model's table."""
    high, low = (float(levels.t(torch.tensor(sigma))) for sigma in options.span(levels))
    return high, low


def at_times(levels: Levels, times: Tensor) -> Tensor:
    """The levels at descending positions of the table, then 0."""
    return to_zero(levels.sigma(times))


def by_hand(values: Sequence[float]) -> Schedule:
    """The schedule that is this list, whatever the steps asked for. Raises BadInput unless it descends within what
    samplers can compute with."""
    if len(values) < 2 or not all(math.isfinite(v) and v >= 0 for v in values) or values[0] <= 0:
        raise BadInput("a list of sigmas needs two or more finite numbers of 0 or more, the first above 0")
    for value in values:
        if value and not SMALLEST <= value <= LARGEST:
            raise BadInput(f"the list of sigmas has {value:g}: use 0, or {SMALLEST:g} to {LARGEST:,.0f}")
    sigmas = torch.tensor(values, dtype=torch.float32)
    for a, b in itertools.pairwise(map(float, sigmas)):
        if b >= a:
            raise BadInput(f"the list of sigmas does not descend at {a:g}, {b:g}")
    return lambda _levels, _steps: sigmas.clone()
