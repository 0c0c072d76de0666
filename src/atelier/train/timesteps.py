"""Which times of noise a step trains."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.train import objective, randomness
from atelier.train.recipe import Times

EDGE = 1e-6
"""How near to 0 and 1 a normal number is still made of a uniform one."""


def drawn(count: int, options: Times, seed: int, step: int) -> Tensor:
    """Times (count,) in [0, 1], 1 being the noisiest, as the options want them."""
    if options.draw == "strata":
        times = objective.strata(count, seed, step)
    else:
        times = randomness.uniform((count,), seed, "time", step)
    if options.density == "logit_normal":
        times = logit_normal(times, options.mean, options.deviation)
    return within(times, options.least, options.most)


def logit_normal(uniform: Tensor, mean: float, deviation: float) -> Tensor:
    """Uniform numbers of [0, 1] as times whose logits are normal: most in the middle, where flow models learn most.

    Source: Esser 2024 (arXiv:2403.03206), equation 19.
    """
    normal = 2**0.5 * torch.erfinv(2 * uniform.double().clamp(EDGE, 1 - EDGE) - 1)
    return torch.sigmoid(mean + deviation * normal).float()


def within(times: Tensor, least: float, most: float) -> Tensor:
    """Times of [0, 1] moved evenly into [least, most]."""
    return least + (most - least) * times
