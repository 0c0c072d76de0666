"""Schedules that pick levels out of the model's table."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, to_zero
from atelier.diffusion.types import Levels, Schedule


def simple(_options: ScheduleOptions) -> Schedule:
    """Every T/n-th level from the last one down, then 0."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        table = levels.sigmas
        places = {len(table) - 1 - i * len(table) // steps for i in range(steps)}
        return to_zero(table[sorted(places, reverse=True)])

    return sigmas


def ddim(_options: ScheduleOptions) -> Schedule:
    """Every (T // n)-th level from the second one up, turned round, then 0; more than n where n does not divide T."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        table = levels.sigmas
        return to_zero(table[1 :: max(len(table) // steps, 1)].flip(0))

    return sigmas


def lcm(_options: ScheduleOptions) -> Schedule:
    """A1111's for LCM: equal steps between the 50 levels of its distillation (19, 39, … of 1000), then 0."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        stride = max(len(levels.sigmas) // 50, 1)
        logs = levels.sigmas[stride - 1 :: stride].double().log()
        at = torch.linspace(len(logs) - 1, 0, steps, dtype=torch.float64)
        low = at.floor().long().clamp(max=len(logs) - 2)
        return to_zero(torch.lerp(logs[low], logs[low + 1], at - low).exp())

    return sigmas


SPECS = (
    ScheduleSpec("Simple", simple),
    ScheduleSpec("DDIM", ddim, aliases=("ddim_uniform",), exact=False),
    ScheduleSpec("LCM", lcm),
)
