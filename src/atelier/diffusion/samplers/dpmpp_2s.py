"""DPM-Solver++(2S): deterministic, ancestral, and ancestral in the manner of CFG++."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor

from atelier.diffusion.sampling import (
    ANCESTRAL,
    SAMPLER_DEFAULTS,
    Options,
    SamplerSpec,
    ancestral,
    intervals,
    level,
)
from atelier.diffusion.solving import unguided
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def dpmpp_2s_ancestral(options: Options = SAMPLER_DEFAULTS, *, cfg_pp: bool = False) -> Sampler:
    """Lu et al. 2022 (arXiv:2211.01095), algorithm 1 with r1 = 1/2, down to below the target; then noise up to it.

    cfg_pp: the whole step is made with the unguided prediction, and the difference that guidance makes is added at its
    end (Chung et al. 2024, arXiv:2406.08070, as ComfyUI applies it to this sampler).
    """
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            seen = denoise(x, level(at.sigma, x))
            drift = unguided(seen) if cfg_pp else seen.clean
            down, up = ancestral(at.sigma, at.target, eta)
            if down > 0:
                middle = math.sqrt(at.sigma * down)
                between = middle / at.sigma * x + (1 - middle / at.sigma) * drift
                halfway = denoise(between, level(middle, x))
                drift = unguided(halfway) if cfg_pp else halfway.clean
            x = down / at.sigma * x + (1 - down / at.sigma) * drift
            if at.target > 0:
                x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            if cfg_pp:
                x = x + (seen.clean - unguided(seen))
            yield Step(at.index, at.total, x, seen.clean)

    return sample


def dpmpp_2s(_options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """The same without noise: two calls a step."""
    steps = dpmpp_2s_ancestral(Options(eta=0.0))

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        return steps(denoise, x, sigmas, lambda _a, _b: x.new_zeros(()))

    return sample


_ANCESTRAL = SamplerSpec(
    "DPM++ 2S a",
    dpmpp_2s_ancestral,
    aliases=("k_dpmpp_2s_a", "k_dpmpp_2s_ancestral", "dpmpp_2s_ancestral"),
    order=2,
    schedule="Karras",
    noise="fresh",
    uses=ANCESTRAL,
    calls=2,
    ensd=True,
)

SPECS = (
    _ANCESTRAL,
    replace(
        _ANCESTRAL,
        name="DPM++ 2S",
        make=dpmpp_2s,
        aliases=("dpmpp_2s", "DPMSolverSinglestepScheduler"),
        noise="none",
        uses=frozenset[str](),
        ensd=False,
    ),
    replace(
        _ANCESTRAL,
        name="DPM++ 2S a CFG++",
        make=partial(dpmpp_2s_ancestral, cfg_pp=True),
        aliases=("dpmpp_2s_ancestral_cfg_pp",),
        unguided=True,
    ),
)
