"""Euler's method on the probability flow ODE."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import CHURN, SAMPLER_DEFAULTS, Options, SamplerSpec, churned, intervals, level
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def euler(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Karras et al. 2022 (arXiv:2206.00364), algorithm 2 without its lines 9-11: dx/dsigma = (x - clean) / sigma."""

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            x, sigma = churned(at, x, options, noise)
            clean = denoise(x, level(sigma, x)).clean
            x = x + (x - clean) / sigma * (at.target - sigma)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec(
        "Euler",
        euler,
        aliases=("k_euler", "EulerDiscreteScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"),
        noise="fresh",
        uses=CHURN,
        flow=True,
    ),
)
