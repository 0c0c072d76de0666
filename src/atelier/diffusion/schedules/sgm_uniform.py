"""Equal steps in the network's time, without its end."""

from __future__ import annotations

from torch import Tensor

from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, at_times, ramp
from atelier.diffusion.types import Levels, Schedule


def sgm_uniform(_options: ScheduleOptions) -> Schedule:
    """The first n of n+1 equally spaced times, then 0: Stability's generative-models."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high, low = (float(levels.t(s)) for s in (levels.sigmas[-1], levels.sigmas[0]))
        return at_times(levels, ramp(high, low, steps + 1)[:-1])

    return sigmas


SPECS = (ScheduleSpec("SGM Uniform", sgm_uniform, aliases=("sgm_uniform", "SGMUniform")),)
