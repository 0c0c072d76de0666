"""DPM-Solver++(2M) for the SDE, in its two variants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

from torch import Tensor

from atelier.diffusion.sampling import ANCESTRAL, SAMPLER_DEFAULTS, Options, SamplerSpec, intervals, level
from atelier.diffusion.solving import log_ratio, phi
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def dpmpp_2m_sde(options: Options = SAMPLER_DEFAULTS, *, variant: Literal["midpoint", "heun"] = "midpoint") -> Sampler:
    """Lu et al. 2022 (arXiv:2211.01095), equation 18 (SDE-DPM-Solver++(2M)) with the noise scaled by eta.

    `midpoint` and `heun` weigh the difference of the last two predictions by half of 1 - e^(-h(1+eta)), or by the exact
    integral of the straight line through them.
    """
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        previous: Tensor | None = None
        last_h = 0.0
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            h = log_ratio(at.sigma, at.target)
            if at.target == 0:
                x = clean
            else:
                span = h * (1 + eta)
                x = math.exp(-span) * x - math.expm1(-span) * clean
                if previous is not None:
                    bend = -math.expm1(-span) / 2 if variant == "midpoint" else span * phi(2, -span)
                    x = x + bend * h / last_h * (clean - previous)
                if eta:
                    up = at.target * math.sqrt(-math.expm1(-2 * eta * h))
                    x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            previous, last_h = clean, h
            yield Step(at.index, at.total, x, clean)

    return sample


_MIDPOINT = SamplerSpec(
    "DPM++ 2M SDE",
    dpmpp_2m_sde,
    aliases=("k_dpmpp_2m_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
    order=2,
    schedule="Exponential",
    noise="brownian",
    uses=ANCESTRAL,
)

SPECS = (
    _MIDPOINT,
    replace(
        _MIDPOINT,
        name="DPM++ 2M SDE Heun",
        make=partial(dpmpp_2m_sde, variant="heun"),
        aliases=("k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"),
    ),
)
