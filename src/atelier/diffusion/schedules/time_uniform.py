"""The times of UniPC: its three skip types."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, ramp
from atelier.diffusion.types import Levels, Schedule


def time_uniform(_options: ScheduleOptions) -> Schedule:
    """n+1 equal places from the last level to the first, ending there and not at 0: A1111's skip type time_uniform.

    Between levels the log of the signal is linear (Lu et al. 2022, arXiv:2206.00927, appendix D.4).
    """

    def sigmas(levels: Levels, steps: int) -> Tensor:
        return _at(levels, ramp(len(levels.sigmas) - 1, 0, steps + 1))

    return sigmas


def time_quadratic(_options: ScheduleOptions) -> Schedule:
    """The same with equal steps in the square root of the time, 1 to 1/T: A1111's skip type time_quadratic."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        count = len(levels.sigmas)
        return _at(levels, (ramp(math.sqrt(count), 1, steps + 1) ** 2 - 1).clamp(0, count - 1))

    return sigmas


def log_snr(_options: ScheduleOptions) -> Schedule:
    """n+1 levels with equal steps in log sigma between the ends of the table: A1111's skip type logSNR."""

    def sigmas(levels: Levels, steps: int) -> Tensor:
        return ramp(math.log(levels.sigma_max), math.log(levels.sigma_min), steps + 1).exp().float()

    return sigmas


def _at(levels: Levels, places: Tensor) -> Tensor:
    """The levels at places (n+1,) of the table, float64, between which the log of the signal is linear."""
    log_signal = -0.5 * torch.log1p(levels.sigmas.double() ** 2)
    low = places.floor().long().clamp(max=len(log_signal) - 2)
    signal = torch.lerp(log_signal[low], log_signal[low + 1], places - low)
    return torch.expm1(-2 * signal).sqrt().float()


SPECS = (
    ScheduleSpec("Time Uniform", time_uniform, aliases=("time_uniform",), to_zero=False),
    ScheduleSpec("Time Quadratic", time_quadratic, aliases=("time_quadratic",), to_zero=False),
    ScheduleSpec("Log SNR", log_snr, aliases=("logSNR",), to_zero=False),
)
