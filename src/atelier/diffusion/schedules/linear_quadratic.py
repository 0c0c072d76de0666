"""Small equal steps, then growing ones."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec
from atelier.diffusion.types import Levels, Schedule

THRESHOLD = 0.025


def linear_quadratic(options: ScheduleOptions) -> Schedule:
    """Movie Gen (arXiv:2410.13720, section 3.1.4): half of the steps fall by 2.5 % of sigma in all.

    The rest is a parabola that joins them smoothly and ends at 0.
    """

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high = options.sigma_max or levels.sigma_max
        return (torch.tensor([1 - fallen(i, steps) for i in range(steps + 1)], dtype=torch.float64) * high).float()

    return sigmas


def fallen(i: int, steps: int) -> float:
    """The share of sigma that is gone before step i."""
    linear = steps // 2
    if i == steps:
        return 1.0
    if i < linear:
        return i * THRESHOLD / linear
    if linear == 0:
        return 0.0
    rest = steps - linear
    excess = linear - THRESHOLD * steps
    square = excess / (linear * rest**2)
    slope = THRESHOLD / linear - 2 * excess / rest**2
    return square * i**2 + slope * i + square * linear**2


SPECS = (
    ScheduleSpec("Linear Quadratic", linear_quadratic, aliases=("linear_quadratic",), uses=frozenset({"sigma_max"})),
)
