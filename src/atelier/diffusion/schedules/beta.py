"""Schedules whose steps follow a beta distribution: dense at both ends."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atelier.diffusion.scheduling import RANGE, ScheduleOptions, ScheduleSpec, to_zero
from atelier.diffusion.types import Levels, Schedule

Doubles = NDArray[np.float64]

ALPHA = BETA = 0.6
_TERMS = 24
_HALVINGS = 55


def beta(options: ScheduleOptions) -> Schedule:
    """Quantiles of Beta(0.6, 0.6), laid over sigma itself, then 0: A1111's reading of the paper below."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high, low = options.span(levels)
        return to_zero(torch.from_numpy(low + quantile(1 - np.linspace(0, 1, steps)) * (high - low)))

    return sigmas


def beta_in_time(_options: ScheduleOptions) -> Schedule:
    """Lee et al. 2024 (arXiv:2407.12173): quantiles of Beta(0.6, 0.6), laid over the timesteps, then 0: ComfyUI's.

    Times that round to the same are taken once.
    """

    def sigmas(levels: Levels, steps: int) -> Tensor:
        places = quantile(1 - np.linspace(0, 1, steps, endpoint=False)) * (len(levels.sigmas) - 1)
        return to_zero(levels.sigmas[torch.from_numpy(np.unique(np.rint(places).astype(np.int64))[::-1].copy())])

    return sigmas


def quantile(p: Doubles) -> Doubles:
    """The x at which the distribution function of Beta(0.6, 0.6) is p, by bisection; any shape."""
    low, high = np.zeros_like(p), np.ones_like(p)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = distribution(middle, ALPHA, BETA) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def distribution(x: Doubles, a: float, b: float) -> Doubles:
    """The regularised incomplete beta function I_x(a, b), 0 < x < 1, mirrored to where its fraction converges."""
    mirrored = x > (a + 1) / (a + b + 2)
    scale = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    part = scale * _fraction(np.where(mirrored, 1 - x, x), np.where(mirrored, b, a), np.where(mirrored, a, b))
    return np.where(mirrored, 1 - part, part)


def _fraction(x: Doubles, a: Doubles, b: Doubles) -> Doubles:
    """The continued fraction DLMF 8.17.22, from its end."""
    value = np.zeros_like(x)
    for m in range(_TERMS, 0, -1):
        even = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m))
        odd = (a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
        value = even * x / (1 - odd * x / (1 + value))
    return x**a * (1 - x) ** b / a / (1 - (a + b) / (a + 1) * x / (1 + value))


SPECS = (
    ScheduleSpec("Beta", beta, uses=RANGE),
    ScheduleSpec("Beta in time", beta_in_time, exact=False),
)
