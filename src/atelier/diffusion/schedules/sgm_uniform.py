"""Equal steps in the network's time, without its end."""

from __future__ import annotations

from torch import Tensor

from atelier.diffusion.scheduling import RANGE, ScheduleOptions, ScheduleSpec, at_times, ramp, time_span
from atelier.diffusion.types import Levels, Schedule


def sgm_uniform(options: ScheduleOptions) -> Schedule:
    """The first n of n+1 equally spaced times, then 0: Stability's generative-models."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        return at_times(levels, ramp(*time_span(options, levels), steps + 1)[:-1])

    return sigmas


SPECS = (ScheduleSpec("SGM Uniform", sgm_uniform, aliases=("sgm_uniform", "SGMUniform"), uses=RANGE),)
