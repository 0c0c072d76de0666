"""DPM-Solver++(2M), and the same in the manner of CFG++."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor

from atelier.diffusion.sampling import SAMPLER_DEFAULTS, Options, SamplerSpec, intervals, level
from atelier.diffusion.solving import log_ratio, unguided
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def dpmpp_2m(_options: Options = SAMPLER_DEFAULTS, *, cfg_pp: bool = False) -> Sampler:
    """Lu et al. 2022 (arXiv:2211.01095), algorithm 2, with lambda = -ln sigma and h the step in it.

    The clean latent is extrapolated along the last two predictions; the first and the last step are of first order.
    cfg_pp: x moves from the unguided prediction to the guided one, and the extrapolation leaves the last unguided one
    (Chung et al. 2024, arXiv:2406.08070, as ComfyUI applies it to this sampler).
    """

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        previous: Tensor | None = None
        last_h = 0.0
        for at in intervals(sigmas):
            seen = denoise(x, level(at.sigma, x))
            origin = unguided(seen) if cfg_pp else seen.clean
            ratio, h = at.target / at.sigma, log_ratio(at.sigma, at.target)
            x = seen.clean + ratio * (x - origin)
            if previous is not None and at.target > 0:
                x = x + (1 - ratio) * h / (2 * last_h) * (seen.clean - previous)
            previous, last_h = origin, h
            yield Step(at.index, at.total, x, seen.clean)

    return sample


_PLAIN = SamplerSpec(
    "DPM++ 2M",
    dpmpp_2m,
    aliases=("k_dpmpp_2m", "dpmpp_2m", "DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"),
    order=2,
    schedule="Karras",
)

SPECS = (
    _PLAIN,
    replace(
        _PLAIN,
        name="DPM++ 2M CFG++",
        make=partial(dpmpp_2m, cfg_pp=True),
        aliases=("dpmpp_2m_cfg_pp",),
        unguided=True,
    ),
)
