"""DPM-Solver with a step size that follows the error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.diffusion.dpm_solver import Singlestep, lower
from atelier.diffusion.sampling import ANCESTRAL, SAMPLER_DEFAULTS, Options, SamplerSpec, level, levels_of
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step
from atelier.errors import NotFinite


@dataclass(frozen=True, slots=True)
class Tolerance:
    """absolute and relative error of a step, the first step in lambda, the orders, and what the controller accepts."""

    absolute: float = 0.0078
    relative: float = 0.05
    first: float = 0.05
    order: int = 3
    safety: float = 0.81
    tries: int = 5000


def dpm_adaptive(options: Options = SAMPLER_DEFAULTS, *, tolerance: Tolerance = Tolerance()) -> Sampler:
    """Lu et al. 2022 (arXiv:2206.00927), appendix C.4 (DPM-Solver-12 and -23): two orders, their difference the error.

    Runs from the schedule's first to its last positive level in as many steps as it needs; each accepted one is
    yielded, with an estimate of how many there will be. The next step is this one times 1 + atan(error^(-1/order) - 1),
    of order 1.5 with noise. Raises NotFinite if the error is no number or the steps do not end.
    """
    eta = options.eta
    power = -1 / (1.5 if eta else tolerance.order)

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        positive = [s for s in levels_of(sigmas) if s > 0]
        start, end = -math.log(positive[0]), -math.log(positive[-1])
        if len(positive) == 1:
            clean = denoise(x, level(positive[0], x)).clean
            yield Step(0, 1, clean, clean)
        t, h, before, done = start, tolerance.first, x, 0
        for _ in range(tolerance.tries):
            if t >= end - 1e-5:
                return
            t_next = min(end, t + h)
            down, up = lower(t, t_next, end, eta)
            solver = Singlestep(denoise, x, t)
            low = solver.step(tolerance.order - 1, down, 1 / tolerance.order)
            high = solver.step(tolerance.order, down)
            error = _error(low, high, before, tolerance)
            factor = 1 + math.atan(math.pow(error + 1e-8, power) - 1)
            h *= factor
            if factor >= tolerance.safety:
                before, x = (
                    low,
                    high + noise(level(math.exp(-t), x), level(math.exp(-t_next), x)) * (options.s_noise * up),
                )
                t, done = t_next, done + 1
                total = done if t >= end - 1e-5 else max(done + 1, round(done * (end - start) / (t - start)))
                yield Step(done - 1, total, x, solver.clean)
        raise NotFinite(f"DPM adaptive: no end after {tolerance.tries} steps; choose another sampler for this model")

    return sample


def _error(low: Tensor, high: Tensor, before: Tensor, tolerance: Tolerance) -> float:
    scale = torch.clamp(tolerance.relative * torch.maximum(low.abs(), before.abs()), min=tolerance.absolute)
    error = math.sqrt(float(((low - high) / scale).square().mean()))
    if not math.isfinite(error):
        raise NotFinite("DPM adaptive: the error of a step is not finite; the model's predictions are not")
    return error


SPECS = (
    SamplerSpec(
        "DPM adaptive",
        dpm_adaptive,
        aliases=("k_dpm_ad", "dpm_adaptive"),
        order=0,
        schedule="Karras",
        noise="fresh",
        uses=ANCESTRAL,
        calls=3,
        ensd=True,
        alone=True,
    ),
)
