"""Steps in log sigma: equal ones, or by a power."""

from __future__ import annotations

import math

from torch import Tensor

from atelier.diffusion.scheduling import RANGE, ScheduleOptions, ScheduleSpec, ramp, to_zero
from atelier.diffusion.types import Levels, Schedule


def polyexponential(options: ScheduleOptions) -> Schedule:
    """ln sigma falls from the largest to the smallest as (1 - i/(n-1))^rho, rho = 1; then 0 (k-diffusion)."""
    rho = options.rho or 1.0

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high, low = options.span(levels)
        return to_zero((ramp(1, 0, steps) ** rho * (math.log(high) - math.log(low)) + math.log(low)).exp())

    return sigmas


def exponential(options: ScheduleOptions) -> Schedule:
    """Equal steps in ln sigma, then 0."""
    return polyexponential(ScheduleOptions(options.sigma_min, options.sigma_max))


SPECS = (
    ScheduleSpec("Exponential", exponential, uses=RANGE),
    ScheduleSpec("Polyexponential", polyexponential, uses=RANGE | {"rho"}),
)
