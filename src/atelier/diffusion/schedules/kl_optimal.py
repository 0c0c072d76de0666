"""The schedule that minimises the KL divergence of the steps for Gaussian data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atelier.diffusion.scheduling import RANGE, ScheduleOptions, ScheduleSpec, ramp, to_zero
from atelier.diffusion.types import Levels, Schedule


def kl_optimal(options: ScheduleOptions) -> Schedule:
    """Sabour et al. 2024 (arXiv:2404.14507), theorem 3.1: equal steps in arctan sigma, as A1111 has it.

    The last of the n+1 sigmas is the smallest, not 0 (docs/compatibility/samplers.md).
    """

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high, low = options.span(levels)
        return torch.tan(ramp(math.atan(high), math.atan(low), steps + 1)).float()

    return sigmas


def kl_optimal_to_zero(options: ScheduleOptions) -> Schedule:
    """n of them, then 0, as ComfyUI has it."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high, low = options.span(levels)
        return to_zero(torch.tan(ramp(math.atan(high), math.atan(low), steps)))

    return sigmas


SPECS = (
    ScheduleSpec("KL Optimal", kl_optimal, aliases=("kl_optimal",), uses=RANGE, to_zero=False),
    ScheduleSpec("KL Optimal to zero", kl_optimal_to_zero, uses=RANGE),
)
