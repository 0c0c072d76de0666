"""CFG++: the clean latent is guided, the direction of the noise is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from atelier.diffusion.sampling import (
    ANCESTRAL,
    SAMPLER_DEFAULTS,
    Options,
    SamplerSpec,
    ancestral,
    intervals,
    level,
    settled,
)
from atelier.diffusion.solving import unguided
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step

OWN = Options(eta=0.0)


def euler_ancestral_cfg_pp(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Chung et al. 2024 (arXiv:2406.08070), algorithm 2: x' = clean + down * (x - unguided) / sigma, and noise up."""
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            seen = denoise(x, level(at.sigma, x))
            down, up = ancestral(at.sigma, at.target, eta)
            x = seen.clean + (x - unguided(seen)) / at.sigma * down
            if up:
                x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            yield Step(at.index, at.total, x, seen.clean)

    return sample


def euler_cfg_pp(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """The same without noise."""
    return euler_ancestral_cfg_pp(replace(options, eta=0.0))


def ddim_cfg_pp(options: Options = OWN) -> Sampler:
    """The same as A1111 counts it: in timesteps (see `settled`), with a draw a step, and a CFG scale of 1/12.5."""
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            seen = denoise(x, level(at.sigma, x))
            down, up = ancestral(at.sigma, at.target, eta)
            x = seen.clean + (x - unguided(seen)) / at.sigma * down
            if at.target > 0:
                x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            x = settled(x, at)
            yield Step(at.index, at.total, x, seen.clean)

    return sample


_ANCESTRAL = SamplerSpec(
    "Euler a CFG++",
    euler_ancestral_cfg_pp,
    aliases=("euler_ancestral_cfg_pp",),
    noise="fresh",
    uses=ANCESTRAL,
    unguided=True,
)

SPECS = (
    _ANCESTRAL,
    replace(
        _ANCESTRAL,
        name="Euler CFG++",
        make=euler_cfg_pp,
        aliases=("euler_cfg_pp",),
        noise="none",
        uses=frozenset[str](),
    ),
    replace(
        _ANCESTRAL,
        name="DDIM CFG++",
        make=ddim_cfg_pp,
        aliases=("ddim_cfgpp",),
        schedule="Timesteps",
        start="unit",
        cfg=1 / 12.5,
        own=OWN,
    ),
)
