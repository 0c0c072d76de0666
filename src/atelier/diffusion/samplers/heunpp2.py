"""Heun++: a weighted look one or two steps ahead."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import (
    CHURN,
    SAMPLER_DEFAULTS,
    Options,
    SamplerSpec,
    churned,
    intervals,
    level,
    levels_of,
)
from atelier.diffusion.solving import combine
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def heunpp2(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """The slope of a step is a mean of those here, one step ahead and two ahead, the latter weighed by sigma / (n s0).

    n is the number of slopes, s0 the first level. A heuristic without a paper (docs/compatibility/samplers.md):
    since the weights are not those of a quadrature, it is of first order. The last step is Euler's, the one before
    looks one step ahead.
    """

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        levels = levels_of(sigmas)
        for at in intervals(sigmas):
            x, sigma = churned(at, x, options, noise)
            clean = denoise(x, level(sigma, x)).clean
            ahead, here, slopes = x, sigma, [(x - clean) / sigma]
            for target in levels[at.index + 1 : at.index + 3]:
                if target == levels[-1]:
                    break
                ahead, here = ahead + slopes[-1] * (target - here), target
                slopes.append((ahead - denoise(ahead, level(target, x)).clean) / target)
            later = [s / (len(slopes) * levels[0]) for s in levels[at.index + 1 : at.index + len(slopes)]]
            x = x + combine([1 - sum(later), *later], slopes) * (at.target - sigma)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (SamplerSpec("HeunPP2", heunpp2, order=1, noise="fresh", uses=CHURN, calls=3, flow=True),)
