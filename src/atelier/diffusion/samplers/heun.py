"""Heun's method on the probability flow ODE."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import CHURN, SAMPLER_DEFAULTS, Options, SamplerSpec, churned, intervals, level
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def heun(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Karras et al. 2022 (arXiv:2206.00364), algorithm 2: the slope is the mean of those at both ends of the step."""

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            x, sigma = churned(at, x, options, noise)
            clean = denoise(x, level(sigma, x)).clean
            slope, h = (x - clean) / sigma, at.target - sigma
            if at.target > 0:
                ahead = x + slope * h
                slope = (slope + (ahead - denoise(ahead, level(at.target, x)).clean) / at.target) / 2
            x = x + slope * h
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec(
        "Heun",
        heun,
        aliases=("k_heun", "HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
        order=2,
        noise="fresh",
        uses=CHURN,
        calls=2,
        flow=True,
    ),
)
