"""Sampling for consistency models: to the clean latent and back up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from atelier.diffusion.sampling import SAMPLER_DEFAULTS, Options, SamplerSpec, intervals, level
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step

OWN = Options(eta=0.3)


def lcm(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Luo et al. 2023 (arXiv:2310.04378), algorithm 3: noise of the next level onto the prediction.

    The boundary condition of the consistency function (c_skip below 1e-5 at every level in use) is left out.
    """

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            x = clean
            if at.target > 0:
                x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * at.target)
            yield Step(at.index, at.total, x, clean)

    return sample


def tcd(options: Options = OWN) -> Sampler:
    """Zheng et al. 2024 (arXiv:2402.19159), algorithm 4: down to timestep (1 - eta) of the next t, then noise up to it.

    eta is the paper's gamma: 0.3 by default, 0 = no noise, 1 = LCM.
    """
    eta, table = options.eta, options.table

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            slope, x = (x - clean) / at.sigma, clean
            if at.target > 0:
                down = at.target if eta == 0 else float(table.sigma(table.t(level(at.target, x)) * (1 - eta)))
                x = x + slope * down
                if eta:
                    up = max(at.target**2 - down**2, 0.0) ** 0.5
                    x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            yield Step(at.index, at.total, x, clean)

    return sample


_LCM = SamplerSpec(
    "LCM",
    lcm,
    aliases=("k_lcm", "LCMScheduler", "FlowMatchLCMScheduler"),
    order=0,
    schedule="LCM",
    noise="fresh",
    uses=frozenset({"s_noise"}),
)

SPECS = (
    _LCM,
    replace(
        _LCM,
        name="TCD",
        make=tcd,
        aliases=("TCDScheduler",),
        order=1,
        uses=frozenset({"eta", "s_noise"}),
        own=OWN,
    ),
)
