"""The times of UniPC."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, ramp
from atelier.diffusion.types import Levels, Schedule


def time_uniform(_options: ScheduleOptions) -> Schedule:
    """n+1 equal places from the last level to the first, ending there and not at 0.

    Between levels the log of the signal is linear (Lu et al. 2022, arXiv:2206.00927, appendix D.4).
    """

    def sigmas(levels: Levels, steps: int) -> Tensor:
        log_signal = -0.5 * torch.log1p(levels.sigmas.double() ** 2)
        at = ramp(len(log_signal) - 1, 0, steps + 1)
        low = at.floor().long().clamp(max=len(log_signal) - 2)
        signal = torch.lerp(log_signal[low], log_signal[low + 1], at - low)
        return torch.expm1(-2 * signal).sqrt().float()

    return sigmas


SPECS = (ScheduleSpec("Time Uniform", time_uniform, to_zero=False),)
