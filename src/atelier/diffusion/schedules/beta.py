"""Schedules whose steps follow a beta distribution: dense at both ends."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atelier.diffusion.scheduling import RANGE, SHAPE, ScheduleOptions, ScheduleSpec, to_zero
from atelier.diffusion.types import Levels, Schedule

Doubles = NDArray[np.float64]

_HALVINGS = 55


def beta(options: ScheduleOptions) -> Schedule:
    """Quantiles of Beta(alpha, beta), laid over sigma itself, then 0: A1111's reading of the paper below
    (docs/compatibility/samplers.md).

    Levels that float32 cannot tell apart, at shapes far from the default, are taken once.
    """

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high, low = options.span(levels)
        places = torch.from_numpy(quantile(1 - np.linspace(0, 1, steps), options.alpha, options.beta))
        laid: Tensor = (low + places * (high - low)).float()
        return to_zero(laid[torch.cat([torch.tensor([True]), laid[1:] < laid[:-1]])])

    return sigmas


def beta_in_time(options: ScheduleOptions) -> Schedule:
    """Lee et al. 2024 (arXiv:2407.12173): quantiles of Beta(alpha, beta), laid over the timesteps, then 0: ComfyUI's.

    Times that round to the same are taken once.
    """

    def sigmas(levels: Levels, steps: int) -> Tensor:
        shares = quantile(1 - np.linspace(0, 1, steps, endpoint=False), options.alpha, options.beta)
        places = np.rint(shares * (len(levels.sigmas) - 1)).astype(np.int64)
        return to_zero(levels.sigmas[torch.from_numpy(np.unique(places)[::-1].copy())])

    return sigmas


def quantile(p: Doubles, a: float, b: float) -> Doubles:
    """The x at which the distribution function of Beta(a, b) is p, by bisection from the nearer end; any shape."""
    return np.where(p > 0.5, 1 - _lower_quantile(1 - p, b, a), _lower_quantile(p, a, b))


def _lower_quantile(p: Doubles, a: float, b: float) -> Doubles:
    low, high = np.zeros_like(p), np.ones_like(p)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = distribution(middle, a, b) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def distribution(x: Doubles, a: float, b: float) -> Doubles:
    """The regularised incomplete beta function I_x(a, b), 0 < x < 1, mirrored to where its fraction converges."""
    mirrored = x > (a + 1) / (a + b + 2)
    scale = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    part = scale * _fraction(np.where(mirrored, 1 - x, x), np.where(mirrored, b, a), np.where(mirrored, a, b))
    return np.where(mirrored, 1 - part, part)


def _fraction(x: Doubles, a: Doubles, b: Doubles) -> Doubles:
    """The continued fraction DLMF 8.17.22, from its end; it takes some square root of the shape to converge."""
    value = np.zeros_like(x)
    terms = 20 + round(4 * math.sqrt(max(a.max(), b.max())))
    for m in range(terms, 0, -1):
        even = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m))
        odd = (a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
        value = even * x / (1 - odd * x / (1 + value))
    return x**a * (1 - x) ** b / a / (1 - (a + b) / (a + 1) * x / (1 + value))


SPECS = (
    ScheduleSpec("Beta", beta, uses=RANGE | SHAPE),
    ScheduleSpec("Beta in time", beta_in_time, uses=SHAPE, exact=False),
)
