"""UniPC's options against a literal restatement of its sums, and A1111's ways of starting, ending and discarding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from atelier.diffusion.catalogue import samplers, schedules
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.rng import silent
from atelier.diffusion.samplers.unipc import unipc
from atelier.diffusion.sampling import Options, Variant, level
from atelier.diffusion.scheduling import ScheduleOptions, run_sigmas
from diffusion_support import Mixture, distance, last, own, start

LEVELS, WORLD = scaled_linear(), Mixture()


def moments(h: float, count: int) -> list[float]:
    """-h phi_k(-h) for k = 1 to count, by its recursion, in the paper's notation with h negated."""
    values, factorial = [math.expm1(-h)], 1.0
    for k in range(1, count):
        values.append(values[-1] / -h - 1 / factorial)
        factorial *= k + 1
    return values


def matrix(ratios: Sequence[float]) -> Tensor:
    rows = [[r**k / math.factorial(k + 1) for k in range(len(ratios))] for r in ratios]
    return torch.linalg.inv(torch.tensor(rows, dtype=torch.float64))


def varying(
    x: Tensor, cleans: Sequence[Tensor], levels: Sequence[float], target: float, new: Tensor | None = None
) -> Tensor:
    """One step of UniPC with varying coefficients in data prediction, as A1111 computes it, in sigma space.

    The latest of `cleans` and `levels` stands last. new: the prediction at the target, to correct with.
    """
    h = math.log(levels[-1] / target)
    ratios = [math.log(levels[-1] / s) / h for s in levels[-2::-1]]
    changes = [(c - cleans[-1]) / r for c, r in zip(cleans[-2::-1], ratios, strict=True)]
    phis, count = moments(h, len(ratios) + 2), len(ratios) + 1
    reached = target / levels[-1] * x - phis[0] * cleans[-1]
    within = matrix([*ratios, 1.0] if new is not None or not ratios else ratios)
    row = 0
    for row in range(count - 1):
        for i, change in enumerate(changes):
            reached = reached - phis[row + 1] * within[row, i] * change
    return reached if new is None else reached - phis[count] * within[row, -1] * (new - cleans[-1])


def restated(x: Tensor, levels: Sequence[float], order: int, *, falling: bool) -> Tensor:
    """The loop of A1111: orders grow from 1, fall at the end if asked to; every step but the last is corrected."""
    steps = len(levels) - 1
    cleans = [WORLD.clean(x, level(levels[0], x))]
    for n in range(1, steps + 1):
        used = n if n < order else min(order, steps + 1 - n) if falling else order
        window = slice(n - used, n)
        ahead = varying(x, cleans[window], levels[window], levels[n])
        if n == steps:
            return ahead
        new = WORLD.clean(ahead, level(levels[n], x))
        x = varying(x, cleans[window], levels[window], levels[n], new)
        cleans.append(new)
    raise AssertionError


@pytest.mark.parametrize("falling", [True, False])
@pytest.mark.parametrize(("order", "steps"), [(1, 4), (2, 7), (3, 3), (3, 12), (4, 20)])
def test_varying_coefficients(order: int, steps: int, falling: bool) -> None:
    sigmas = run_sigmas(schedules()["Time Uniform"].make(ScheduleOptions()), LEVELS, steps)
    x = start(14.6)
    options = Options(order=order, variant="vary_coeff", lower_order_final=falling)
    found = last(unipc(options)(WORLD.model(), x, sigmas, silent)) * math.sqrt(1 + float(sigmas[-1]) ** 2)
    expected = restated(x, sigmas.double().tolist(), order, falling=falling)
    assert distance(found, expected) < 1e-9


@pytest.mark.parametrize("variant", ["bh1", "bh2", "vary_coeff"])
def test_a_variant_that_is_named_comes_before_the_samplers_own(variant: Variant) -> None:
    sigmas, x = run_sigmas(schedules()["Time Uniform"].make(ScheduleOptions()), LEVELS, 9), start(14.6)
    run = partial(_run, x=x, sigmas=sigmas)
    assert torch.equal(run("UniPC", own("UniPC", variant=variant)), run("UniPC BH2", own("UniPC BH2", variant=variant)))
    assert torch.equal(run("UniPC", Options(order=3, variant="bh1")), run("UniPC", own("UniPC")))
    assert torch.equal(run("UniPC BH2", Options(order=3, variant="bh2")), run("UniPC BH2", own("UniPC BH2")))


@pytest.mark.parametrize(("name", "kind"), [("UniPC", "bh1"), ("UniPC BH2", "bh2")])
@pytest.mark.parametrize("steps", [5, 15])
def test_full_order_to_the_end_is_that_of_diffusers(name: str, kind: str, steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.UniPCMultistepScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        solver_order=3,
        solver_type=kind,
        timestep_spacing="trailing",
        final_sigmas_type="sigma_min",
        lower_order_final=False,
        prediction_type="sample",
    )
    scheduler.set_timesteps(steps)
    unit = start(1.0, (2, 4, 6, 6), torch.float32)
    x, sigmas = unit, scheduler.sigmas
    for t, sigma in zip(scheduler.timesteps, sigmas[:-1], strict=True):
        x = scheduler.step(WORLD.clean(x * torch.sqrt(1 + sigma**2), sigma), t, x).prev_sample
    begun = unit * math.sqrt(1 + float(sigmas[0]) ** 2)
    full = _run(name, own(name, lower_order_final=False), begun, sigmas)
    assert distance(full, x) < 1e-4
    assert distance(_run(name, own(name), begun, sigmas), x) > 1e-3


def test_a_latent_can_begin_as_in_generative_models() -> None:
    """A1111's SGM noise multiplier: noise * sqrt(1 + sigma^2), which samplers that count in timesteps have always."""
    noise, sigma = start(1.0), 14.6146
    for spec in samplers().values():
        plain, unit = spec.begin(noise, sigma), spec.begin(noise, sigma, unit=True)
        assert torch.equal(unit, noise * math.sqrt(1 + sigma**2))
        assert torch.equal(plain, unit) == (spec.start == "unit")
        assert torch.equal(replace(spec, start="sigma").begin(noise, sigma), noise * sigma)


@pytest.mark.parametrize("name", ["Karras", "Normal", "Beta", "KL Optimal"])
def test_the_penultimate_sigma_is_left_out_as_in_a1111(name: str) -> None:
    """One step more is laid out, and its next-to-last level taken away, whether the schedule ends in 0 or not."""
    make = schedules()[name].make(ScheduleOptions(0.1, 10.0))
    more, found = run_sigmas(make, LEVELS, 13), run_sigmas(make, LEVELS, 12, discard=True)
    assert found.tolist() == [*more[:-2].tolist(), float(more[-1])]
    assert len(found) == 13


def _run(name: str, options: Options, x: Tensor, sigmas: Tensor) -> Tensor:
    return last(samplers()[name].make(options)(WORLD.model(), x, sigmas, silent))
