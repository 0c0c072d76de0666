"""Schedules that were found by search and published as tables of eleven levels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, to_zero
from atelier.diffusion.types import Levels, Schedule

ALIGN_YOUR_STEPS = {
    "sd1": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}
"""Sabour et al. 2024 (arXiv:2404.14507), the authors' quick start guide."""

GITS = {
    "sd1": (14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029),
    "sdxl": (14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029),
}
"""Chen et al. 2024 (arXiv:2405.11326), as Forge has it."""


def tabled(table: tuple[float, ...]) -> Schedule:
    """n levels by interpolation of the table in log sigma, then 0."""

    def sigmas(_levels: Levels, steps: int) -> Tensor:
        places = np.linspace(0, len(table) - 1, steps)
        return to_zero(torch.from_numpy(np.exp(np.interp(places, np.arange(len(table)), np.log(table)))))

    return sigmas


def align_your_steps(options: ScheduleOptions) -> Schedule:
    """NVIDIA's table of the family."""
    return tabled(ALIGN_YOUR_STEPS[options.table])


def gits(options: ScheduleOptions) -> Schedule:
    """The table of the family from the geometry of trajectories."""
    return tabled(GITS[options.table])


_AYS = ("align_your_steps", "AYS", "Align Your Steps 11", "Align Your Steps 32")

SPECS = (
    ScheduleSpec("Align Your Steps", align_your_steps, aliases=_AYS, uses=frozenset({"table"})),
    ScheduleSpec("Align Your Steps GITS", gits, aliases=("align_your_steps_GITS", "GITS"), uses=frozenset({"table"})),
)
