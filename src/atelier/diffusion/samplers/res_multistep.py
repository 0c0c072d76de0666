"""RES: a refined exponential multistep solver, plain, ancestral, and in the manner of CFG++."""

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
    levels_of,
)
from atelier.diffusion.solving import log_ratio, phi, unguided
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def res_multistep(options: Options = SAMPLER_DEFAULTS, *, cfg_pp: bool = False) -> Sampler:
    """Zhang et al. 2023 (arXiv:2308.02157), the second-order multistep of table 2, in lambda = -ln sigma.

    With noise, a step goes down to below its target and up again; the place of the last prediction is measured from
    where the last step went down to, as ComfyUI does. cfg_pp: from the unguided prediction to the guided one
    (arXiv:2406.08070).
    """
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        levels, previous, landed = levels_of(sigmas), None, 0.0
        for at in intervals(sigmas):
            seen = denoise(x, level(at.sigma, x))
            origin = unguided(seen) if cfg_pp else seen.clean
            down, up = ancestral(at.sigma, at.target, eta)
            if down == 0 or previous is None or landed == 0:
                x = seen.clean + (x - origin) / at.sigma * down
            else:
                h = log_ratio(at.sigma, down)
                place = -log_ratio(levels[at.index - 1], landed) / h
                older = phi(2, -h) / place
                x = math.exp(-h) * (x + seen.clean - origin)
                x = x + h * ((phi(1, -h) - older) * origin + older * previous)
            if at.target > 0 and eta:
                x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            previous, landed = origin, down
            yield Step(at.index, at.total, x, seen.clean)

    return sample


def res_multistep_plain(options: Options = SAMPLER_DEFAULTS, *, cfg_pp: bool = False) -> Sampler:
    """The same without noise."""
    return res_multistep(replace(options, eta=0.0), cfg_pp=cfg_pp)


_ANCESTRAL = SamplerSpec(
    "Res Multistep a",
    res_multistep,
    aliases=("res_multistep_ancestral",),
    order=2,
    noise="fresh",
    uses=ANCESTRAL,
)
_PLAIN = replace(
    _ANCESTRAL,
    name="Res Multistep",
    make=res_multistep_plain,
    aliases=("res_multistep",),
    noise="none",
    uses=frozenset[str](),
)

SPECS = (
    _PLAIN,
    _ANCESTRAL,
    replace(
        _PLAIN,
        name="Res Multistep CFG++",
        make=partial(res_multistep_plain, cfg_pp=True),
        aliases=("res_multistep_cfg_pp",),
        unguided=True,
    ),
    replace(
        _ANCESTRAL,
        name="Res Multistep a CFG++",
        make=partial(res_multistep, cfg_pp=True),
        aliases=("res_multistep_ancestral_cfg_pp",),
        unguided=True,
    ),
)
