"""Whole trajectories against diffusers' schedulers: the same network, the same noise, CFG 7.5."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from atelier.diffusion.catalogue import samplers, schedules
from atelier.diffusion.denoise import denoiser, timed
from atelier.diffusion.guidance.cfg import CfgOptions, cfg
from atelier.diffusion.levels import DiscreteLevels, scaled_linear
from atelier.diffusion.parameterization import EPSILON, VELOCITY, Parameterization
from atelier.diffusion.samplers.sa_solver import Adams, sa_solver
from atelier.diffusion.sampling import Options
from atelier.diffusion.scheduling import ScheduleOptions, by_hand, run_sigmas
from atelier.diffusion.types import Model, Moment, NoiseSource
from diffusion_support import Mixture, distance, last, own, start

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


def ours(predicts: Parameterization = EPSILON, scale: float = 7.5, **more: Any) -> Model:
    model = net(predicts)

    def untimed(x: Tensor, t: Tensor, _: Moment) -> Tensor:
        return model(x, t)

    return timed(cfg(denoiser(untimed, predicts, LEVELS), CfgOptions(scale=scale), **more), 1)


def theirs(
    scheduler: Any,
    steps: int,
    noise: Tensor,
    predicts: Parameterization = EPSILON,
    scale: float = 7.5,
    draws: list[Tensor] | None = None,
    reached: list[Tensor] | None = None,
    **step: Any,
) -> Tensor:
    scheduler.set_timesteps(steps)
    model, x = net(predicts), noise * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(torch.cat([x, x]), t)
        uncond, cond = model(seen, t).chunk(2)
        extra = {} if draws is None else {"variance_noise": draws[i]}
        x = scheduler.step(uncond + scale * (cond - uncond), t, x, **step, **extra).prev_sample
        if reached is not None:
            reached.append(x)
    return x


def sigmas_of(scheduler: Any) -> Tensor:
    return run_sigmas(by_hand(scheduler.sigmas.tolist()), LEVELS, len(scheduler.sigmas) - 1)


def no_noise(_a: Tensor, _b: Tensor) -> Tensor:
    return torch.zeros(())


def from_list(draws: list[Tensor]) -> NoiseSource:
    left = iter(draws)
    return lambda _a, _b: next(left)


def generate(
    name: str,
    unit: Tensor,
    sigmas: Tensor,
    options: Options | None = None,
    source: NoiseSource = no_noise,
    predicts: Parameterization = EPSILON,
    scale: float = 7.5,
) -> Tensor:
    """From unit noise, variance preserving, as diffusers starts where it counts in timesteps."""
    x = unit * math.sqrt(1 + float(sigmas[0]) ** 2)
    return last(samplers()[name].make(options or own(name))(ours(predicts, scale), x, sigmas, source))


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
    got = generate("DDIM", NOISE, levels, own("DDIM", eta=eta), from_list(draws), predicts)
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
    assert distance(last(samplers()["Euler"].make(own("Euler"))(ours(), x, sigmas, no_noise)), expected) < 1e-3


@pytest.mark.parametrize("steps", [1, 2, 10, 25])
def test_dpmpp_2m(steps: int) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SD1, timestep_spacing="leading", steps_offset=1, euler_at_final=False
    )
    expected = theirs(scheduler, steps, NOISE)
    assert distance(generate("DPM++ 2M", NOISE, sigmas_of(scheduler)), expected) < 1e-3


def ended_at_the_first_level(scheduler: Any, steps: int) -> Tensor:
    """The sigmas of a scheduler whose last step ends at the table's first level, and leaves x in that level's scale."""
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.clone()
    assert float(sigmas[-1]) == pytest.approx(LEVELS.sigma_min, rel=1e-3)
    return sigmas


@pytest.mark.parametrize(("variant", "name"), [("bh1", "UniPC"), ("bh2", "UniPC BH2")])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [3, 10, 25])
def test_unipc(variant: str, name: str, order: int, steps: int) -> None:
    kind = {"solver_order": order, "solver_type": variant, "timestep_spacing": "trailing"}
    scheduler = diffusers.UniPCMultistepScheduler(**SD1, **kind)
    if variant == "bh2":  # with bh1, theirs is not a number where it ends at 0
        expected = theirs(scheduler, steps, NOISE)
        assert distance(generate(name, NOISE, sigmas_of(scheduler), own(name, order=order)), expected) < 1e-4
    scheduler = diffusers.UniPCMultistepScheduler(**SD1, **kind, final_sigmas_type="sigma_min")
    expected = theirs(scheduler, steps, NOISE)
    sigmas = ended_at_the_first_level(scheduler, steps)
    assert distance(generate(name, NOISE, sigmas, own(name, order=order)), expected) < 1e-4


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [3, 10, 25])
def test_deis(order: int, steps: int) -> None:
    scheduler = diffusers.DEISMultistepScheduler(
        **SD1, solver_order=order, timestep_spacing="trailing", lower_order_final=False
    )
    expected = theirs(scheduler, steps, NOISE)
    sigmas = ended_at_the_first_level(scheduler, steps)
    got = generate("DEIS log-rho", NOISE, sigmas, own("DEIS log-rho", order=order)) / math.sqrt(
        1 + float(sigmas[-1]) ** 2
    )
    assert distance(got, expected) < 1e-4


@pytest.mark.parametrize("steps", [2, 3, 10, 25])
def test_plms(steps: int) -> None:
    scheduler = diffusers.PNDMScheduler(
        **SD1, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
    )
    expected = theirs(scheduler, steps, NOISE)
    sigmas = run_sigmas(schedules()["Leading"].make(ScheduleOptions()), LEVELS, steps)
    sigmas[-1] = LEVELS.sigma_min
    assert distance(generate("PLMS", NOISE, sigmas), expected) < 1e-3


@pytest.mark.parametrize("steps", [2, 10])
def test_ddpm(steps: int) -> None:
    scheduler = diffusers.DDPMScheduler(**SD1, clip_sample=False, timestep_spacing="trailing")
    draws = [start(1.0, NOISE.shape, torch.float32) * (1 + i / 10) for i in range(steps)]
    left = iter(draws)
    with mock.patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", side_effect=lambda *_, **__: next(left)):
        expected = theirs(scheduler, steps, NOISE)
    sigmas = run_sigmas(schedules()["Turbo"].make(ScheduleOptions()), LEVELS, steps)
    assert distance(generate("DDPM", NOISE, sigmas, source=from_list(draws)), expected) < 1e-3


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_lcm(steps: int) -> None:
    scheduler = diffusers.LCMScheduler(**SD1, clip_sample=False, set_alpha_to_one=True)
    draws = [start(1.0, NOISE.shape, torch.float32) * (1 + i / 10) for i in range(steps)]
    left = iter(draws)
    with mock.patch("diffusers.schedulers.scheduling_lcm.randn_tensor", side_effect=lambda *_, **__: next(left)):
        expected = theirs(scheduler, steps, NOISE, scale=1.5)
    sigmas = torch.cat([LEVELS.sigmas[scheduler.timesteps], torch.zeros(1)])
    assert distance(generate("LCM", NOISE, sigmas, source=from_list(draws), scale=1.5), expected) < 1e-4


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_tcd(eta: float) -> None:
    """Up to the last step, which theirs makes to the first level of the table and not to 0."""
    scheduler = diffusers.TCDScheduler(**SD1, clip_sample=False)
    draws = [start(1.0, NOISE.shape, torch.float32) * (1 + i / 10) for i in range(5)]
    left, reached = iter(draws), list[Tensor]()
    with mock.patch("diffusers.schedulers.scheduling_tcd.randn_tensor", side_effect=lambda *_, **__: next(left)):
        theirs(scheduler, 5, NOISE, scale=1.5, reached=reached, eta=eta)
    sigmas = torch.cat([LEVELS.sigmas[scheduler.timesteps], torch.zeros(1)])
    x = NOISE * math.sqrt(1 + float(sigmas[0]) ** 2)
    steps = list(samplers()["TCD"].make(own("TCD", eta=eta))(ours(scale=1.5), x, sigmas, from_list(draws)))
    for step, expected, sigma in zip(steps[:-1], reached[:-1], sigmas[1:-1], strict=True):
        assert distance(step.x / torch.sqrt(1 + sigma**2), expected) < 1e-3


@pytest.mark.parametrize("steps", [3, 10, 25])
def test_dpmpp_2m_sde(steps: int) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SD1, algorithm_type="sde-dpmsolver++", timestep_spacing="trailing"
    )
    draws = [start(1.0, NOISE.shape, torch.float32) * (1 + i / 10) for i in range(steps)]
    expected = theirs(scheduler, steps, NOISE, draws=draws)
    got = generate("DPM++ 2M SDE", NOISE, sigmas_of(scheduler), source=from_list(draws))
    assert distance(got, expected) < 1e-4


@pytest.mark.parametrize("steps", [3, 10, 25])
@pytest.mark.parametrize("stochastic", [False, True], ids=["ode", "sde"])
def test_sa_solver(steps: int, stochastic: bool) -> None:
    """Their last step ends at the table's first level; orders 2 and 2 with the authors' short weights."""
    strength = 0.8 if stochastic else 0.0
    scheduler = diffusers.SASolverScheduler(
        **SD1, tau_func=lambda _: strength, timestep_spacing="trailing", lower_order_final=False
    )
    draws = [start(1.0, NOISE.shape, torch.float32) * (1 + i / 10) for i in range(steps)]
    left = iter(draws)
    with mock.patch("diffusers.schedulers.scheduling_sasolver.randn_tensor", side_effect=lambda *_, **__: next(left)):
        expected = theirs(scheduler, steps, NOISE)
    sigmas = ended_at_the_first_level(scheduler, steps)
    kind = Adams(predictor=2, corrector=2, simple=True, tau=lambda _a, _b: strength)
    x = NOISE * math.sqrt(1 + float(sigmas[0]) ** 2)
    got = last(sa_solver(adams_=kind)(ours(), x, sigmas, from_list(draws)))
    assert distance(got / math.sqrt(1 + float(sigmas[-1]) ** 2), expected) < 1e-4


@pytest.mark.parametrize("steps", [3, 12])
def test_ipndm(steps: int) -> None:
    """Its scheduler has a process of its own, x = cos clean + sin noise, and a network says (noise - sin x) / cos."""
    scheduler = diffusers.IPNDMScheduler()
    scheduler.set_timesteps(steps)
    angle = torch.linspace(0.94, 0.1, steps + 1) * math.pi / 2
    scheduler.betas, scheduler.alphas, scheduler.timesteps = angle.sin(), angle.cos(), angle[:-1]
    sigmas = angle.tan()
    world, x = CONDITIONS[1], NOISE * sigmas[0]
    sample = x * angle[0].cos()
    for t, sigma in zip(scheduler.timesteps, sigmas[:-1], strict=True):
        inside = sample / t.cos()
        noise = (inside - world.clean(inside, sigma)) / sigma
        sample = scheduler.step((noise - sample * t.sin()) / t.cos(), t, sample).prev_sample
    got = last(samplers()["IPNDM"].make(own("IPNDM"))(world.model(), x, sigmas, no_noise))
    assert distance(got * angle[-1].cos(), sample) < 1e-4


def test_dpmpp_2m_karras() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(**SD1, use_karras_sigmas=True)
    expected = theirs(scheduler, 10, NOISE)
    assert distance(generate("DPM++ 2M", NOISE, sigmas_of(scheduler)), expected) < 1e-2  # times are rounded there
