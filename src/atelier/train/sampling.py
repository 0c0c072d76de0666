"""Images by a network that is being trained, for a look at what it has learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atelier.diffusion.denoise import denoiser, timed
from atelier.diffusion.guidance.cfg import CfgOptions, cfg
from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.samplers.euler import euler
from atelier.diffusion.schedules.uniform import uniform
from atelier.diffusion.scheduling import ScheduleOptions
from atelier.diffusion.types import Levels, Moment

STEPS = 20


@torch.no_grad()
def sampled(
    net: Callable[[Tensor, Tensor], Tensor],
    parameterization: Parameterization,
    levels: Levels,
    noise: Tensor,
    cfg_scale: float,
) -> Tensor:
    """Clean latents (B, C, h, w) after 20 steps of Euler's method from unit noise of that shape.

    net: (2 B inputs, times) -> outputs; the first half of the rows without the prompt, the second half with it.
    """
    sigmas = uniform(ScheduleOptions())(levels, STEPS).to(noise.device)

    def called(x: Tensor, t: Tensor, _: Moment) -> Tensor:
        return net(x, t)

    model = timed(cfg(denoiser(called, parameterization, levels), CfgOptions(cfg_scale)), STEPS)
    x = noise * sigmas[0]
    for step in euler()(model, x, sigmas, _no_noise):
        x = step.x
    return x


def _no_noise(sigma: Tensor, following: Tensor) -> Tensor:
    raise AssertionError(f"Euler's method asks for noise between {sigma} and {following}")
