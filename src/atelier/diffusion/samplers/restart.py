"""Restart sampling: Heun steps that go back up in noise once or twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import SAMPLER_DEFAULTS, Options, SamplerSpec, level, levels_of
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step

LOW, HIGH = 0.1, 2.0


def restart(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Xu et al. 2023 (arXiv:2306.14878), algorithm 1, with the plan of A1111 (docs/compatibility/samplers.md).

    Below 20 steps it is Heun's method on the given schedule. From 20 (36) on, 9 (a quarter) of the steps are spent once
    (twice) on going again from about sigma 2 down to about 0.1, and all is laid out in Karras steps between the ends of
    the schedule.
    """

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        plan = transitions(levels_of(sigmas))
        reached = plan[0][0]
        for i, (sigma, target) in enumerate(plan):
            if sigma > reached:
                up = math.sqrt(sigma**2 - reached**2)
                x = x + noise(level(reached, x), level(sigma, x)) * (options.s_noise * up)
            clean = denoise(x, level(sigma, x)).clean
            slope, h = (x - clean) / sigma, target - sigma
            if target > 0:
                ahead = x + slope * h
                slope = (slope + (ahead - denoise(ahead, level(target, x)).clean) / target) / 2
            x, reached = x + slope * h, target
            yield Step(i, len(plan), x, clean)

    return sample


def transitions(levels: list[float]) -> list[tuple[float, float]]:
    """(from, to) of every step, with those that are gone again."""
    steps = len(levels) - 1
    if steps < 20:
        return list(itertools.pairwise(levels))
    again, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    levels = [*_karras(steps - again * times, levels[0], levels[-2]), 0.0]
    low, high = (_nearest(levels, sigma) for sigma in (LOW, HIGH))
    plan = list(itertools.pairwise(levels))
    loop = _karras(again + 1, levels[high], levels[low]) if high < low else []
    return plan[:low] + list(itertools.pairwise(loop)) * times + plan[low:]


def _karras(count: int, high: float, low: float, rho: float = 7.0) -> list[float]:
    start, end = high ** (1 / rho), low ** (1 / rho)
    return [(start + (end - start) * i / max(count - 1, 1)) ** rho for i in range(count)]


def _nearest(levels: list[float], sigma: float) -> int:
    return min(range(len(levels)), key=lambda i: abs(levels[i] - sigma))


SPECS = (
    SamplerSpec(
        "Restart",
        restart,
        order=2,
        schedule="Karras",
        noise="fresh",
        uses=frozenset({"s_noise"}),
        calls=2,
    ),
)
