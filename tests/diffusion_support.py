"""An analytic world for samplers: every element is of the same mixture of Gaussians, so that all is known exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from atelier.diffusion.catalogue import samplers
from atelier.diffusion.rng import fresh, streams
from atelier.diffusion.sampling import Options
from atelier.diffusion.types import Model, NoiseSource, Prediction, Sampler, Step


@dataclass(frozen=True)
class Mixture:
    """Clean values are `means` with equal chance, spread by `spread`."""

    means: tuple[float, ...] = (-1.0, 0.6)
    spread: float = 0.35

    def clean(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[clean | x, sigma] for x = clean + sigma noise; sigma broadcasts over x."""
        variance = self.spread**2 + sigma**2
        means = torch.tensor(self.means, dtype=x.dtype).reshape(-1, *([1] * x.ndim))
        share = torch.softmax(-((x - means) ** 2) / (2 * variance), 0)
        return (share * (means + self.spread**2 / variance * (x - means))).sum(0)

    def model(self) -> Model:
        def denoise(x: Tensor, sigma: Tensor, /) -> Prediction:
            at = sigma.to(x.dtype).reshape(-1, *([1] * (x.ndim - 1))) if sigma.ndim else sigma.to(x.dtype)
            return Prediction(self.clean(x, at))

        return denoise

    def cdf(self, x: Tensor, sigma: float) -> Tensor:
        scale = math.sqrt(2 * (self.spread**2 + sigma**2))
        return torch.stack([0.5 * torch.erfc((m - x) / scale) for m in self.means]).mean(0)

    def exact(self, x: Tensor, start: float, end: float) -> Tensor:
        """Where the probability flow ODE takes x (float64) from level `start` to `end`: to its own quantile."""
        quantile = self.cdf(x, start)
        width = 10 * (self.spread + end) + max(map(abs, self.means))
        low, high = torch.full_like(x, -width), torch.full_like(x, width)
        for _ in range(80):
            middle = (low + high) / 2
            below = self.cdf(middle, end) < quantile
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


def own(name: str, **changes: Any) -> Options:
    """A sampler's own options, but for these."""
    return replace(samplers()[name].own, **changes)


def noise_for(x: Tensor, seed: int = 100) -> NoiseSource:
    """A new source, one stream per image; equal seeds give equal noise."""
    return fresh(streams(range(seed, seed + x.shape[0])), x)


def start(sigma: float, shape: tuple[int, ...] = (2, 1, 4, 4), dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype) * sigma


def last(steps: Iterator[Step]) -> Tensor:
    final = None
    for step in steps:
        final = step.x
    assert final is not None
    return final


def generate(sampler: Sampler, x: Tensor, sigmas: Tensor, mixture: Mixture = Mixture(), seed: int = 100) -> Tensor:
    return last(sampler(mixture.model(), x, sigmas, noise_for(x, seed)))


def distance(a: Tensor, b: Tensor) -> float:
    """Relative: the norm of the difference over the norm of b."""
    return float((a.double() - b.double()).norm() / b.double().norm())
