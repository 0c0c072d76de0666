"""The schedule of EDM."""

from __future__ import annotations

from torch import Tensor

from atelier.diffusion.scheduling import RANGE, ScheduleOptions, ScheduleSpec, ramp, to_zero
from atelier.diffusion.types import Levels, Schedule

RHO = 7.0
"""The paper's."""


def karras(options: ScheduleOptions) -> Schedule:
    """Karras et al. 2022 (arXiv:2206.00364), equation 5: equal steps in sigma^(1/rho), rho = 7; then 0."""
    rho = options.rho or RHO

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high, low = options.span(levels)
        return to_zero(ramp(high ** (1 / rho), low ** (1 / rho), steps) ** rho)

    return sigmas


SPECS = (ScheduleSpec("Karras", karras, uses=RANGE | {"rho"}, rho=RHO),)
