"""Gradient estimation: Euler's method with the slope carried on beyond its last two values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor

from atelier.diffusion.sampling import SAMPLER_DEFAULTS, Options, SamplerSpec, intervals, level
from atelier.diffusion.solving import unguided
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def gradient_estimation(_options: Options = SAMPLER_DEFAULTS, *, gamma: float = 2.0, cfg_pp: bool = False) -> Sampler:
    """Permenter and Yuan 2023 (arXiv:2306.04848), algorithm 2: slope = gamma * this + (1 - gamma) * last, gamma = 2.

    cfg_pp: the slope is that of the unguided prediction, from the guided one (arXiv:2406.08070).
    """

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        last: Tensor | None = None
        for at in intervals(sigmas):
            seen = denoise(x, level(at.sigma, x))
            slope = (x - (unguided(seen) if cfg_pp else seen.clean)) / at.sigma
            if at.target == 0:
                x = seen.clean
            else:
                x = seen.clean + slope * at.target if cfg_pp else x + slope * (at.target - at.sigma)
                if last is not None:
                    x = x + (gamma - 1) * (slope - last) * (at.target - at.sigma)
            last = slope
            yield Step(at.index, at.total, x, seen.clean)

    return sample


_PLAIN = SamplerSpec("Gradient Estimation", gradient_estimation, aliases=("gradient_estimation",), flow=True)

SPECS = (
    _PLAIN,
    replace(
        _PLAIN,
        name="Gradient Estimation CFG++",
        make=partial(gradient_estimation, cfg_pp=True),
        aliases=("gradient_estimation_cfg_pp",),
        unguided=True,
        flow=False,
    ),
)
