"""Equal steps in the network's time."""

from __future__ import annotations

from torch import Tensor

from atelier.diffusion.scheduling import (
    RANGE,
    ScheduleOptions,
    ScheduleSpec,
    at_times,
    ramp,
    time_span,
)
from atelier.diffusion.types import Levels, Schedule


def uniform(_options: ScheduleOptions) -> Schedule:
    """n equally spaced times from the last to the first of the table, then 0: A1111's default before 1.9."""
    return normal(ScheduleOptions())


def normal(options: ScheduleOptions) -> Schedule:
    """The same between the times of the largest and the smallest level: A1111's and ComfyUI's normal."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        return at_times(levels, ramp(*time_span(options, levels), steps))

    return sigmas


SPECS = (
    ScheduleSpec("Uniform", uniform, aliases=("Linspace",)),
    ScheduleSpec("Normal", normal, uses=RANGE),
)
