"""DPM-Solver++ for the SDE, with a midpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import ANCESTRAL, SAMPLER_DEFAULTS, Options, SamplerSpec, ancestral, intervals, level
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def dpmpp_sde(options: Options = SAMPLER_DEFAULTS, *, r: float = 0.5) -> Sampler:
    """Lu et al. 2022 (arXiv:2211.01095), algorithm 1 (2S), each of its two stages made ancestral as in k-diffusion
    (docs/compatibility/samplers.md).

    r places the stage between the ends, in lambda = -ln sigma.
    """
    eta = options.eta

    def advance(x: Tensor, clean: Tensor, sigma: float, target: float, noise: NoiseSource) -> Tensor:
        down, up = ancestral(sigma, target, eta)
        x = down / sigma * x + (1 - down / sigma) * clean
        return x + noise(level(sigma, x), level(target, x)) * (options.s_noise * up) if up else x

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            if at.target == 0:
                x = clean
            else:
                middle = math.exp((1 - r) * math.log(at.sigma) + r * math.log(at.target))
                between = denoise(advance(x, clean, at.sigma, middle, noise), level(middle, x)).clean
                x = advance(x, clean + (between - clean) / (2 * r), at.sigma, at.target, noise)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec(
        "DPM++ SDE",
        dpmpp_sde,
        aliases=("k_dpmpp_sde", "dpmpp_sde", "dpmpp_sde_gpu", "DPM SDE", "DPMSolverSDEScheduler"),
        order=2,
        schedule="Karras",
        noise="brownian",
        uses=ANCESTRAL,
        calls=2,
    ),
)
