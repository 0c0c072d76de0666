"""DPM2: the midpoint method with its middle in log sigma, and its ancestral form."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import (
    ANCESTRAL,
    CHURN,
    SAMPLER_DEFAULTS,
    Options,
    SamplerSpec,
    ancestral,
    churned,
    intervals,
    level,
)
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def _midpoint(denoise: Model, x: Tensor, clean: Tensor, sigma: float, target: float) -> Tensor:
    """A step of DPM-Solver-2 (Lu et al. 2022, arXiv:2206.00927, algorithm 1, r1 = 1/2) as a midpoint rule in sigma."""
    slope = (x - clean) / sigma
    if target == 0:
        return x - slope * sigma
    middle = math.sqrt(sigma * target)
    between = x + slope * (middle - sigma)
    slope = (between - denoise(between, level(middle, x)).clean) / middle
    return x + slope * (target - sigma)


def dpm2(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """The midpoint step above, with the churn of Karras et al. 2022 (arXiv:2206.00364), algorithm 2."""

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            x, sigma = churned(at, x, options, noise)
            clean = denoise(x, level(sigma, x)).clean
            x = _midpoint(denoise, x, clean, sigma, at.target)
            yield Step(at.index, at.total, x, clean)

    return sample


def dpm2_ancestral(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """The midpoint step down to below the target, then noise up to it."""
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            down, up = ancestral(at.sigma, at.target, eta)
            x = _midpoint(denoise, x, clean, at.sigma, down)
            if down > 0:
                x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec(
        "DPM2",
        dpm2,
        aliases=("k_dpm_2", "dpm_2", "kdpm_2", "KDPM2", "KDPM2DiscreteScheduler"),
        order=2,
        schedule="Karras",
        noise="fresh",
        uses=CHURN,
        calls=2,
        discards=True,
        flow=True,
    ),
    SamplerSpec(
        "DPM2 a",
        dpm2_ancestral,
        aliases=(
            "k_dpm_2_a",
            "k_dpm_2_ancestral",
            "dpm_2_ancestral",
            "kdpm_2_a",
            "KDPM2 a",
            "KDPM2AncestralDiscreteScheduler",
        ),
        order=2,
        schedule="Karras",
        noise="fresh",
        uses=ANCESTRAL,
        calls=2,
        discards=True,
        ensd=True,
    ),
)
