"""Euler steps with fresh noise: the ancestral sampler of DDPM in sigma space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from atelier.diffusion.sampling import ANCESTRAL, SAMPLER_DEFAULTS, Options, SamplerSpec, ancestral, intervals, level
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def euler_ancestral(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Song et al. 2021 (arXiv:2010.02502), equation 12, divided by the signal's scale: x = clean + down * direction.

    eta = 1 is the ancestral step of DDPM (Ho et al. 2020, arXiv:2006.11239, algorithm 2).
    """
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            down, up = ancestral(at.sigma, at.target, eta)
            x = x + (x - clean) / at.sigma * (down - at.sigma)
            if at.target > 0:
                x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec(
        "Euler a",
        euler_ancestral,
        aliases=("k_euler_a", "k_euler_ancestral", "euler_ancestral", "euler_a", "EulerAncestralDiscreteScheduler"),
        noise="fresh",
        uses=ANCESTRAL,
        ensd=True,
    ),
    SamplerSpec(
        "DDPM",
        lambda options: euler_ancestral(replace(options, eta=1.0)),
        aliases=("DDPMScheduler", "DDPMParallelScheduler"),
        order=0,
        noise="fresh",
        uses=frozenset({"s_noise"}),
    ),
)
