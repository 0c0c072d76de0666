"""Whole trajectories against diffusers' schedulers: the same network, the same noise, CFG 7.5."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from atelier.diffusion.catalogue import samplers, schedules
from atelier.diffusion.denoise import denoiser
from atelier.diffusion.guidance.cfg import Guidance, cfg
from atelier.diffusion.levels import DiscreteLevels, scaled_linear
from atelier.diffusion.parameterization import EPSILON, VELOCITY, Parameterization
from atelier.diffusion.sampling import DEFAULTS, Options
from atelier.diffusion.scheduling import ScheduleOptions, by_hand, run_sigmas
from atelier.diffusion.types import Denoiser, NoiseSource
from diffusion_support import Mixture, distance, last, start

diffusers = pytest.importorskip("diffusers")

SD1 = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}
CONDITIONS = (Mixture((-0.4, 0.4), 0.6), Mixture((-1.0, 0.2), 0.4))  # unconditional, conditional
LEVELS = scaled_linear()
Net = Callable[[Tensor, Tensor], Tensor]


def net(predicts: Parameterization, levels: DiscreteLevels = LEVELS) -> Net:
    """An exact network over a doubled batch (unconditional half first) that sees variance-preserving latents."""

    def forward(x: Tensor, t: Tensor) -> Tensor:
        out = list[Tensor]()
        for half, time, world in zip(x.chunk(2), t.expand(len(x)).chunk(2), CONDITIONS, strict=True):
            sigma = levels.sigma(time).to(x.dtype).reshape(-1, 1, 1, 1)
            inside = half * (1 + sigma**2).sqrt()
            out.append(predicts.target(world.clean(inside, sigma), inside, sigma.flatten()))
        return torch.cat(out)

    return forward


def ours(predicts: Parameterization = EPSILON, scale: float = 7.5, **more: Any) -> Denoiser:
    return cfg(Guidance(scale=scale), **more)(denoiser(net(predicts), predicts, LEVELS))


def theirs(
    scheduler: Any,
    steps: int,
    noise: Tensor,
    predicts: Parameterization = EPSILON,
    scale: float = 7.5,
    draws: list[Tensor] | None = None,
    **step: Any,
) -> Tensor:
    scheduler.set_timesteps(steps)
    model, x = net(predicts), noise * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(torch.cat([x, x]), t)
        uncond, cond = model(seen, t).chunk(2)
        extra = {} if draws is None else {"variance_noise": draws[i]}
        x = scheduler.step(uncond + scale * (cond - uncond), t, x, **step, **extra).prev_sample
    return x


def sigmas_of(scheduler: Any) -> Tensor:
    return run_sigmas(by_hand(scheduler.sigmas.tolist()), LEVELS, len(scheduler.sigmas) - 1)


def no_noise(_a: Tensor, _b: Tensor) -> Tensor:
    return torch.zeros(())


def from_list(draws: list[Tensor]) -> NoiseSource:
    left = iter(draws)
    return lambda _a, _b: next(left)


def paint(
    name: str,
    unit: Tensor,
    sigmas: Tensor,
    options: Options = DEFAULTS,
    source: NoiseSource = no_noise,
    predicts: Parameterization = EPSILON,
) -> Tensor:
    """From unit noise, variance preserving, as diffusers starts where it counts in timesteps."""
    x = unit * math.sqrt(1 + float(sigmas[0]) ** 2)
    return last(samplers()[name].make(options)(ours(predicts), x, sigmas, source))


NOISE = start(1.0, (2, 4, 6, 6), torch.float32)


@pytest.mark.parametrize("predicts", [EPSILON, VELOCITY], ids=["epsilon", "velocity"])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim(eta: float, predicts: Parameterization) -> None:
    kind = {EPSILON.name: "epsilon", VELOCITY.name: "v_prediction"}[predicts.name]
    scheduler = diffusers.DDIMScheduler(
        **SD1, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=kind
    )
    draws = [start(1.0, NOISE.shape, torch.float32) * (1 + i / 10) for i in range(10)]
    expected = theirs(scheduler, 10, NOISE, predicts, draws=draws if eta else None, eta=eta)
    levels = run_sigmas(schedules()["Leading"].make(ScheduleOptions()), LEVELS, 10)
    levels[-1] = LEVELS.sigma_min  # diffusers ends at the first abar of the table
    got = paint("DDIM", NOISE, levels, Options(eta=eta), from_list(draws), predicts)
    assert distance(got, expected) < 1e-3


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_euler(spacing: str, steps: int) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**SD1, timestep_spacing=spacing, steps_offset=1)
    expected = theirs(scheduler, steps, NOISE)
    sigmas = run_sigmas(
        schedules()[spacing.title() if spacing == "leading" else "Turbo"].make(ScheduleOptions()), LEVELS, steps
    )
    assert torch.allclose(sigmas, scheduler.sigmas, rtol=1e-3)
    x = NOISE * float(scheduler.init_noise_sigma)
    assert distance(last(samplers()["Euler"].make(Options())(ours(), x, sigmas, no_noise)), expected) < 1e-3


@pytest.mark.parametrize("steps", [1, 2, 10, 25])
def test_dpmpp_2m(steps: int) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SD1, timestep_spacing="leading", steps_offset=1, euler_at_final=False
    )
    expected = theirs(scheduler, steps, NOISE)
    assert distance(paint("DPM++ 2M", NOISE, sigmas_of(scheduler)), expected) < 1e-3


def test_dpmpp_2m_karras() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(**SD1, use_karras_sigmas=True)
    expected = theirs(scheduler, 10, NOISE)
    assert distance(paint("DPM++ 2M", NOISE, sigmas_of(scheduler)), expected) < 1e-2  # times are rounded there
