"""SEEDS: exponential derivative-free solvers for the SDE, in two and three stages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor

from atelier.diffusion.sampling import ANCESTRAL, SAMPLER_DEFAULTS, Options, SamplerSpec, intervals, level
from atelier.diffusion.solving import log_ratio, phi
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


class _Walk:
    """The noise of one step, gathered from stage to stage: an Ornstein-Uhlenbeck path in lambda, in units of sigma."""

    def __init__(self, sigma: float, noise: NoiseSource, options: Options, eta: float) -> None:
        self._at, self._noise, self._strength, self._eta = sigma, noise, options.s_noise, eta
        self._value: Tensor | float = 0.0

    def to(self, sigma: float, x: Tensor) -> Tensor | float:
        """The noise to add to a stage at level `sigma`."""
        if not self._eta:
            return 0.0
        h = max(log_ratio(self._at, sigma), 0.0) * self._eta
        drawn = self._noise(level(self._at, x), level(sigma, x))
        self._value = self._value * math.exp(-h) + drawn * math.sqrt(-math.expm1(-2 * h))
        self._at = sigma
        return self._value * (sigma * self._strength)


def seeds_2(options: Options = SAMPLER_DEFAULTS, *, r: float = 0.5, exact: bool = False) -> Sampler:
    """Gonzalez et al. 2023 (arXiv:2305.14267), SEEDS-2 in data prediction; the second stage at r of the step in lambda.

    exact: weigh the stages by phi_2 (exponential Runge-Kutta, Hochbruck and Ostermann 2010) instead of by 1/(2r).
    """
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            if at.target == 0:
                x = clean
            else:
                h, walk = log_ratio(at.sigma, at.target), _Walk(at.sigma, noise, options, eta)
                span, middle = h * (1 + eta), at.sigma * math.exp(-r * h)
                stage = math.exp(-r * span) * x - math.expm1(-r * span) * clean + walk.to(middle, x)
                between = denoise(stage, level(middle, x)).clean
                weight = span * phi(2, -span) / r if exact else -math.expm1(-span) / (2 * r)
                x = math.exp(-span) * x - math.expm1(-span) * clean + weight * (between - clean)
                x = x + walk.to(at.target, x)
            yield Step(at.index, at.total, x, clean)

    return sample


def seeds_3(options: Options = SAMPLER_DEFAULTS, *, r1: float = 1 / 3, r2: float = 2 / 3) -> Sampler:
    """Gonzalez et al. 2023 (arXiv:2305.14267), SEEDS-3 in data prediction; stages at r1 and r2 of the step."""
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            if at.target == 0:
                x = clean
            else:
                h, walk = log_ratio(at.sigma, at.target), _Walk(at.sigma, noise, options, eta)
                span = h * (1 + eta)
                one, two = (at.sigma * math.exp(-r * h) for r in (r1, r2))
                stage = math.exp(-r1 * span) * x - math.expm1(-r1 * span) * clean + walk.to(one, x)
                first = denoise(stage, level(one, x)).clean - clean
                bend = r2 / r1 * (r2 * span * phi(2, -r2 * span))
                stage = math.exp(-r2 * span) * x - math.expm1(-r2 * span) * clean + bend * first + walk.to(two, x)
                second = denoise(stage, level(two, x)).clean - clean
                x = math.exp(-span) * x - math.expm1(-span) * clean + span * phi(2, -span) / r2 * second
                x = x + walk.to(at.target, x)
            yield Step(at.index, at.total, x, clean)

    return sample


def exp_heun(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Heun's method as an exponential integrator, without noise."""
    return seeds_2(replace(options, eta=0.0), r=1.0, exact=True)


_TWO = SamplerSpec(
    "SEEDS 2",
    seeds_2,
    aliases=("seeds_2",),
    order=2,
    noise="fresh",
    uses=ANCESTRAL,
    calls=2,
)

SPECS = (
    _TWO,
    replace(_TWO, name="SEEDS 3", make=seeds_3, aliases=("seeds_3",), order=3, calls=3),
    replace(
        _TWO,
        name="Exp Heun 2 x0",
        make=exp_heun,
        aliases=("exp_heun_2_x0",),
        noise="none",
        uses=frozenset[str](),
    ),
    replace(
        _TWO,
        name="Exp Heun 2 x0 SDE",
        make=partial(seeds_2, r=1.0, exact=True),
        aliases=("exp_heun_2_x0_sde",),
    ),
)
