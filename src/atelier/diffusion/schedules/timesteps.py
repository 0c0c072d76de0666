"""The timesteps that DDIM and its kin count in."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, at_times
from atelier.diffusion.types import Levels, Schedule


def leading_times(count: int, steps: int) -> Tensor:
    """1, 1 + s, 1 + 2s, … below T, s = T // n, descending: n of them, or more where n does not divide T."""
    times = range(1, count, max(count // steps, 1))
    return torch.tensor(times[::-1])


def timesteps(_options: ScheduleOptions) -> Schedule:
    """A1111's: the sampler goes from each time to the one before it and stops at the first, so "20 steps" are 19
    (docs/compatibility/samplers.md).

    One step goes from the last level to the first.
    """

    def sigmas(levels: Levels, steps: int) -> Tensor:
        times = leading_times(len(levels.sigmas), steps)
        if len(times) == 1:
            times = torch.tensor([len(levels.sigmas) - 1, 1])
        return levels.sigma(times)

    return sigmas


def leading(_options: ScheduleOptions) -> Schedule:
    """diffusers' "leading" spacing with an offset of 1: exactly n times, a step of T // n apart, then 0."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        times = leading_times(len(levels.sigmas), steps)
        return at_times(levels, times[len(times) - min(steps, len(times)) :])

    return sigmas


def trailing(_options: ScheduleOptions) -> Schedule:
    """n times, T / n apart, counted down from the last (Lin et al. 2023, arXiv:2305.08891, table 2), then 0."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        count = len(levels.sigmas)
        times = {max(round(i * count / steps - 1), 0) for i in range(1, steps + 1)}
        return at_times(levels, torch.tensor(sorted(times, reverse=True)))

    return sigmas


SPECS = (
    ScheduleSpec("Timesteps", timesteps, exact=False, to_zero=False),
    ScheduleSpec("Leading", leading),
    ScheduleSpec("Turbo", trailing, aliases=("Trailing",)),
)
