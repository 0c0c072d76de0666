"""One step of DPM-Solver of order 1, 2 or 3 in noise prediction, whose orders share their calls."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from atelier.diffusion.sampling import ancestral, level
from atelier.diffusion.solving import phi
from atelier.diffusion.types import Model


@dataclass(slots=True)
class Singlestep:
    """Lu et al. 2022 (arXiv:2206.00927), equations 3.7, algorithms 1 and 2, from x at t = lambda = -ln sigma.

    It lives for one step; what it has asked of the denoiser is kept, so that two orders cost no more than the higher.
    """

    denoise: Model
    x: Tensor
    t: float
    clean: Tensor = field(init=False)
    _slopes: dict[tuple[int, float], Tensor] = field(init=False, default_factory=dict[tuple[int, float], Tensor])

    def __post_init__(self) -> None:
        self.clean = self.denoise(self.x, level(math.exp(-self.t), self.x)).clean

    def step(self, order: int, t_next: float, r1: float | None = None) -> Tensor:
        """x at t_next; r1 places the first stage, by default at 1/order."""
        h = t_next - self.t
        first = self._slope()
        if order == 1:
            return self._along(h, first)
        r1 = r1 or 1 / order
        one = self._slope_at(1, r1 * h, self._along(r1 * h, first))
        sigma = math.exp(-t_next)
        if order == 2:
            return self._along(h, first) - sigma / (2 * r1) * math.expm1(h) * (one - first)
        r2 = 2 * r1
        at_two = math.exp(-self.t - r2 * h)
        stage = self._along(r2 * h, first) - at_two * (r2 / r1) * (r2 * h * phi(2, r2 * h)) * (one - first)
        two = self._slope_at(2, r2 * h, stage)
        return self._along(h, first) - sigma / r2 * (h * phi(2, h)) * (two - first)

    def _slope(self) -> Tensor:
        return (self.x - self.clean) / math.exp(-self.t)

    def _along(self, h: float, slope: Tensor) -> Tensor:
        return self.x - math.exp(-self.t - h) * math.expm1(h) * slope

    def _slope_at(self, stage: int, h: float, x: Tensor) -> Tensor:
        if (stage, h) not in self._slopes:
            sigma = math.exp(-self.t - h)
            self._slopes[stage, h] = (x - self.denoise(x, level(sigma, x)).clean) / sigma
        return self._slopes[stage, h]


def lower(t: float, t_next: float, end: float, eta: float) -> tuple[float, float]:
    """(t to step to, noise to add) of an ancestral step from t to t_next that never passes `end`."""
    if not eta:
        return t_next, 0.0
    target = math.exp(-t_next)
    down, _ = ancestral(math.exp(-t), target, eta)
    reached = min(end, -math.log(down)) if down > 0 else end
    return reached, math.sqrt(max(target**2 - math.exp(-2 * reached), 0.0))
