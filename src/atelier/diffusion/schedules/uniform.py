"""Equal steps in the network's time."""

from __future__ import annotations

from torch import Tensor

from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, at_times, ramp
from atelier.diffusion.types import Levels, Schedule


def uniform(_options: ScheduleOptions) -> Schedule:
    """n equally spaced times from the last to the first of the table, then 0: A1111's old default, ComfyUI's normal."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        high, low = (float(levels.t(s)) for s in (levels.sigmas[-1], levels.sigmas[0]))
        return at_times(levels, ramp(high, low, steps))

    return sigmas


SPECS = (ScheduleSpec("Uniform", uniform, aliases=("Linspace",)), ScheduleSpec("Normal", uniform))
