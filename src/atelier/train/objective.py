"""The loss of a denoiser: about ten lines over a Parameterization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.types import Levels
from atelier.train import randomness
from atelier.train.masks import masked

Weighting = Callable[[Tensor], Tensor]
"""Levels of noise sigma (B,) -> what the squared error of the clean latent weighs there (B,), not negative."""


@dataclass(frozen=True, slots=True)
class ClampedSnr:
    """A weighting: the signal-to-noise ratio 1 / sigma^2, `floor` at least and `gamma` at most.

    gamma keeps the nearly clean times from outweighing the rest; a floor does the same for the noisy ones, at which is
    decided what an image shows. Sources: Hang 2023 (arXiv:2303.09556), eq. 8; Salimans 2022 (arXiv:2202.00512), 4.
    """

    floor: float
    gamma: float

    def __call__(self, sigma: Tensor) -> Tensor:
        return (sigma**-2).clamp(self.floor, self.gamma)


@dataclass(frozen=True, slots=True)
class Even:
    """A weighting: the error of the network's output weighs the same at all levels, as published models are trained."""

    parameterization: Parameterization

    def __call__(self, sigma: Tensor) -> Tensor:
        return self.parameterization.coefficients(sigma).out.square().reciprocal()


@dataclass(frozen=True, slots=True)
class Debiased:
    """A weighting: the error of epsilon weighs one over the root of the signal-to-noise ratio, which counts 1000 at
    most (Yu 2023, arXiv:2310.08442, eq. 11; the bound is kohya's)."""

    def __call__(self, sigma: Tensor) -> Tensor:
        snr = sigma**-2
        return snr * snr.clamp_max(1000.0).rsqrt()


def loss(
    net: Callable[[Tensor, Tensor], Tensor],
    parameterization: Parameterization,
    levels: Levels,
    clean: Tensor,
    noise: Tensor,
    t: Tensor,
    weighting: Weighting,
    detail: float = 0.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the network's output at the levels in places t (int64, (B,)), weighted by `weight`: (B,).

    clean, noise: (B, C, h, w); detail: how much more what is finer than 2x2 positions weighs; mask: (B, 1, h, w), see
    `masks.masked`.
    Source: Ho 2020 (arXiv:2006.11239), eq. 14.
    """
    sigma = levels.sigmas.to(clean.device)[t]
    x = parameterization.noised(clean, noise, sigma)
    output = net(parameterization.scale_in(x, sigma), levels.t(sigma))
    error = masked(output.float() - parameterization.target(clean, x, sigma), mask)
    return weight(parameterization, weighting, sigma) * (_power(error) + detail * _power(fine(error)))


def fine(x: Tensor) -> Tensor:
    """x (B, C, h, w) minus the mean of every 2x2 positions: what halving the resolution would lose."""
    coarse = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    return x - F.interpolate(coarse, scale_factor=2.0, mode="nearest")[..., : x.shape[-2], : x.shape[-1]]


def _power(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1)


def weight(parameterization: Parameterization, weighting: Weighting, sigma: Tensor) -> Tensor:
    """What makes the error of the network's output weigh as `weighting` says of the clean latent's; sigma (B,).

    The clean latent's error is that of the output times the parameterization's factor `out`: its square is that of
    epsilon over the SNR, and that of the velocity over SNR + 1 (Salimans 2022, arXiv:2202.00512, section 4).
    """
    return weighting(sigma) * parameterization.coefficients(sigma).out.square()


def strata(count: int, seed: int, step: int) -> Tensor:
    """Times spread evenly over [0, 1) in random order: uniform each, with less variance together (count,).

    Rounding may make the last of them 1.
    """
    shift = randomness.uniform((1,), seed, "time", step)
    return ((torch.arange(count) + shift) / count)[randomness.permutation(count, seed, "turn", step)]


def indices(times: Tensor, levels: int) -> Tensor:
    """The places of times in [0, 1] in a table of so many levels of noise: int64, 0 to levels - 1."""
    return (times * levels).long().clamp_max(levels - 1)


def shifted(times: Tensor, factor: float) -> Tensor:
    """Times of [0, 1) moved towards the noise: a share of factor / (factor + 1) of uniform ones ends above 0.5.

    Source: Esser 2024 (arXiv:2403.03206), eq. 23.
    """
    return factor * times / (1 + (factor - 1) * times)
