"""Diffusion exponential integrator sampler."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from torch import Tensor

from atelier.diffusion.sampling import Options, SamplerSpec, intervals, level, levels_of
from atelier.diffusion.solving import adams, combine
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


class Variable(NamedTuple):
    """What the slope is a polynomial in: v(sigma), and dsigma/dv as a function of v."""

    of: Callable[[float], float]
    rate: Callable[[float], float]


_LOW, _HIGH, _EPSILON = 0.002, 80.0, 1e-3
_GROWTH: Final = 2 * (math.log1p(_LOW**2) / _EPSILON - math.log1p(_HIGH**2)) / (_EPSILON - 1)
_FLOOR: Final = math.log1p(_HIGH**2) - _GROWTH / 2

OWN = Options(order=3)


def _time(sigma: float) -> float:
    return (math.sqrt(_FLOOR**2 + 2 * _GROWTH * math.log1p(sigma**2)) - _FLOOR) / _GROWTH


def _time_rate(t: float) -> float:
    exponent = _GROWTH * t**2 / 2 + _FLOOR * t
    return (_GROWTH * t + _FLOOR) * math.exp(exponent) / (2 * math.sqrt(math.expm1(exponent)))


TIME = Variable(_time, _time_rate)
"""tAB: the time of a VP process from sigma 0.002 to 80 with beta linear in it, whatever the model; as with GITS."""

LOG_SIGMA = Variable(math.log, math.exp)
"""log-rho: what diffusers uses."""


def deis(options: Options = OWN, *, variable: Variable = TIME) -> Sampler:
    """Zhang and Chen 2022 (arXiv:2204.13902), equation 15 (tAB-DEIS) in sigma space: x' = x + sum_j C_j slope_j.

    C_j is the integral over sigma of the Lagrange polynomials in `variable` of the last slopes; order 3 by default.
    """
    order = min(options.order, 4)

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        levels, slopes = levels_of(sigmas), deque[Tensor](maxlen=order)
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            slopes.appendleft((x - clean) / at.sigma)
            if at.target == 0:
                x = clean
            elif len(slopes) == 1:
                x = x + slopes[0] * (at.target - at.sigma)
            else:
                nodes = [variable.of(levels[at.index - k]) for k in range(len(slopes))]
                x = x + combine(adams(nodes, nodes[0], variable.of(at.target), variable.rate), slopes)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec("DEIS", deis, order=2, uses=frozenset({"order"}), flow=True, own=OWN),
    SamplerSpec(
        "DEIS log-rho",
        partial(deis, variable=LOG_SIGMA),
        aliases=("DEISMultistepScheduler",),
        order=2,
        uses=frozenset({"order"}),
        flow=True,
        own=OWN,
    ),
)
