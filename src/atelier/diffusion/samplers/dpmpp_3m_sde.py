"""DPM-Solver++(3M) for the SDE."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from atelier.diffusion.sampling import ANCESTRAL, SAMPLER_DEFAULTS, Options, SamplerSpec, intervals, level
from atelier.diffusion.solving import log_ratio, phi
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def dpmpp_3m_sde(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """The third-order multistep of Lu et al. 2022 (arXiv:2211.01095, appendix B.4), for the SDE, as in k-diffusion.

    The clean latent is a parabola in lambda through the last three predictions, whose derivatives are weighed by
    phi_2 and phi_3 of -h(1 + eta).
    """
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        cleans, lengths = deque[Tensor](maxlen=3), deque[float](maxlen=2)
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            cleans.appendleft(clean)
            h = log_ratio(at.sigma, at.target)
            if at.target == 0:
                x = clean
            else:
                span = h * (1 + eta)
                x = math.exp(-span) * x - math.expm1(-span) * clean
                if lengths:
                    x = x + _bend(cleans, [length / h for length in lengths], span)
                if eta:
                    up = at.target * math.sqrt(-math.expm1(-2 * eta * h))
                    x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            lengths.appendleft(h)
            yield Step(at.index, at.total, x, clean)

    return sample


def _bend(cleans: Sequence[Tensor], ratios: list[float], span: float) -> Tensor:
    """What the derivatives of the clean latent add; ratios: past steps over this one, the latest first."""
    second, third = span * phi(2, -span), span * phi(3, -span)
    first = (cleans[0] - cleans[1]) / ratios[0]
    if len(ratios) == 1:
        return second * first
    before = (cleans[1] - cleans[2]) / ratios[1]
    curve = (first - before) / (ratios[0] + ratios[1])
    return second * (first + curve * ratios[0]) + third * curve


def dpmpp_3m(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """The same without noise: DPM-Solver++(3M)."""
    return dpmpp_3m_sde(replace(options, eta=0.0))


_SDE = SamplerSpec(
    "DPM++ 3M SDE",
    dpmpp_3m_sde,
    aliases=("k_dpmpp_3m_sde", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu"),
    order=2,
    schedule="Exponential",
    noise="brownian",
    uses=ANCESTRAL,
    discards=True,
)

SPECS = (
    _SDE,
    replace(
        _SDE,
        name="DPM++ 3M",
        make=dpmpp_3m,
        aliases=("dpmpp_3m",),
        schedule="Karras",
        noise="none",
        uses=frozenset[str](),
        discards=False,
    ),
)
