"""Pseudo numerical methods: Adams and Bashforth's weights on the slope, as if all steps were equal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from torch import Tensor

from atelier.diffusion.sampling import SAMPLER_DEFAULTS, Options, SamplerSpec, intervals, level, levels_of, settled
from atelier.diffusion.solving import combine
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step

WEIGHTS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)

OWN = Options(order=4)


def ipndm(options: Options = OWN) -> Sampler:
    """Zhang and Chen 2022 (arXiv:2204.13902), section 4: the multistep of PNDM without its costly start."""
    order = min(options.order, 4)

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        slopes = deque[Tensor](maxlen=order)
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            slopes.appendleft((x - clean) / at.sigma)
            used = 1 if at.target == 0 else len(slopes)
            x = x + combine(WEIGHTS[used - 1], islice(slopes, used)) * (at.target - at.sigma)
            yield Step(at.index, at.total, x, clean)

    return sample


def ipndm_v(options: Options = OWN) -> Sampler:
    """The same with weights for steps of different length, as published with GITS (Chen et al. 2024, arXiv:2405.11326).

    As published, a parenthesis of the third weight and a quotient of the fourth (h1/h2 for h2/h3) stand wrong where
    steps differ, which leaves the method of first order. They are kept, because images were generated with them; `LMS`
    has the exact weights.
    """
    order = min(options.order, 4)

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        levels, slopes = levels_of(sigmas), deque[Tensor](maxlen=order)
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            slopes.appendleft((x - clean) / at.sigma)
            used = 1 if at.target == 0 else len(slopes)
            lengths = [levels[at.index + 1 - k] - levels[at.index - k] for k in range(used)]
            x = x + combine(variable_weights(lengths), islice(slopes, used)) * (at.target - at.sigma)
            yield Step(at.index, at.total, x, clean)

    return sample


def variable_weights(lengths: Sequence[float]) -> list[float]:
    """Weights of the last slopes, the latest first, for steps of these lengths, this one's first; 1 to 4 of them."""
    if len(lengths) == 1:
        return [1.0]
    h, h1, *more = lengths
    ratio = h / h1
    weights = [1 + ratio / 2, -ratio / 2]
    if more:
        h2 = more[0]
        third = (1 - h / (3 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2
        weights = [weights[0] + third, weights[1] - (1 + h1 / h2) * third, third * h1 / h2]
    if len(more) == 2:
        h2, h3 = more
        share = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
        fourth = share * (h * (h + h1) * (h + h1 + h2)) / (h1 * (h1 + h2) * (h1 + h2 + h3))
        back = h1 * (h1 + h2) / (h2 * (h2 + h3))
        weights = [
            weights[0] + fourth,
            weights[1] - (1 + h1 / h2 + back) * fourth,
            weights[2] + (h1 / h2 + back * (1 + h2 / h3)) * fourth,
            -fourth * back * h1 / h2,
        ]
    return weights


def plms(_options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Liu et al. 2022 (arXiv:2202.09778), as CompVis' PLMS: a first step of Heun's (one call more), then order 2 to 4.

    It counts in timesteps: see `settled`.
    """

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        slopes = deque[Tensor](maxlen=4)
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            slopes.appendleft((x - clean) / at.sigma)
            slope, h = combine(WEIGHTS[len(slopes) - 1], slopes), at.target - at.sigma
            if at.index == 0 and at.target > 0:
                ahead = x + slope * h
                slope = (slope + (ahead - denoise(ahead, level(at.target, x)).clean) / at.target) / 2
            x = settled(x + slope * h, at)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec("PLMS", plms, aliases=("PNDM", "PNDMScheduler"), order=2, schedule="Timesteps", start="unit"),
    SamplerSpec("IPNDM", ipndm, aliases=("IPNDMScheduler",), order=2, uses=frozenset({"order"}), flow=True, own=OWN),
    SamplerSpec("IPNDM_V", ipndm_v, order=1, uses=frozenset({"order"}), flow=True, own=OWN),
)
