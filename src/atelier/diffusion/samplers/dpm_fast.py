"""DPM-Solver-fast: steps of third order, as many as the calls allow."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.dpm_solver import Singlestep, lower
from atelier.diffusion.sampling import ANCESTRAL, SAMPLER_DEFAULTS, Options, SamplerSpec, level, levels_of
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


def orders_of(calls: int) -> list[int]:
    """Lu et al. 2022 (arXiv:2206.00927), section 3.4: third-order steps, then what is left of the calls."""
    steps = calls // 3 + 1
    return [3] * (steps - 2) + [2, 1] if calls % 3 == 0 else [3] * (steps - 1) + [calls % 3]


def dpm_fast(options: Options = SAMPLER_DEFAULTS) -> Sampler:
    """Equal steps in lambda = -ln sigma between the schedule's first and its last positive level, where it stops.

    Of the schedule only these ends and the number of its steps, which is the number of calls, matter. With noise, a
    step goes down to below its target, and up again.
    """
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        positive = [s for s in levels_of(sigmas) if s > 0]
        orders = orders_of(len(sigmas) - 1) if len(positive) > 1 else [0]
        start, end = -math.log(positive[0]), -math.log(positive[-1])
        for i, order in enumerate(orders):
            t, t_next = (start + (end - start) * k / len(orders) for k in (i, i + 1))
            solver = Singlestep(denoise, x, t)
            if order:
                down, up = lower(t, t_next, end, eta)
                x = solver.step(order, down)
                x = x + noise(level(math.exp(-t), x), level(math.exp(-t_next), x)) * (options.s_noise * up)
            else:
                x = solver.clean
            yield Step(i, len(orders), x, solver.clean)

    return sample


SPECS = (
    SamplerSpec(
        "DPM fast",
        dpm_fast,
        aliases=("k_dpm_fast", "dpm_fast"),
        order=2,
        schedule="Karras",
        noise="fresh",
        uses=ANCESTRAL,
        ensd=True,
    ),
)
