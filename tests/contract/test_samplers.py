"""What every sampler must do, whoever adds it: the registry is the list of cases."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import fields
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from atelier.diffusion.catalogue import samplers, schedules
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.rng import fresh, silent, streams
from atelier.diffusion.sampling import Options, SamplerSpec
from atelier.diffusion.scheduling import ScheduleOptions, run_sigmas
from atelier.diffusion.types import Model, NoiseSource, Prediction, Step
from atelier.errors import BadInput
from diffusion_support import Mixture, distance, generate, last, own, start

LEVELS = scaled_linear()
WORLD = Mixture()
every = pytest.mark.parametrize("spec", samplers().values(), ids=samplers().keys())
GIVEN_ENDS = {"DPM fast", "DPM adaptive"}  # they stop at the last positive level
# finite, but no image: a last positive level of 5 to stop at; steps that grow where the weights want equal ones
ILL_MATCHED = {
    ("DPM fast", "Linear Quadratic"),
    ("DPM adaptive", "Linear Quadratic"),
    ("IPNDM_V", "Linear Quadratic"),
}


def sigmas_of(name: str, steps: int) -> Tensor:
    return run_sigmas(schedules()[name].make(ScheduleOptions()), LEVELS, steps)


def noise(x: Tensor, seed: int = 3) -> NoiseSource:
    """From torch's generators: quick, for thousands of runs."""
    return fresh(streams(range(seed, seed + len(x)), "cpu"), x)


def small() -> Tensor:
    return start(14.6, (2, 1, 2, 2), torch.float32)


def steady(value: float) -> Model:
    return lambda x, sigma: Prediction(torch.full_like(x, value))


def run(spec: SamplerSpec, sigmas: Tensor, options: Options | None = None, denoise: Model | None = None) -> Tensor:
    x = small()
    return last(spec.make(options or spec.own)(denoise or WORLD.model(), x, sigmas, noise(x)))


@every
def test_it_paints_along_every_schedule_in_any_number_of_steps(spec: SamplerSpec) -> None:
    for name in schedules():
        for steps in (1, 2, 3, 10, 30):
            sigmas = sigmas_of(name, steps)
            x = spec.begin(start(1.0, (2, 1, 2, 2), torch.float32), float(sigmas[0]))
            seen = list(spec.make(spec.own)(WORLD.model(), x, sigmas, noise(x)))
            assert [s.index for s in seen] == list(range(len(seen))), (name, steps)
            assert seen[-1].total == len(seen), (name, steps)
            for step in seen:
                assert step.x.shape == x.shape
                assert step.x.dtype == x.dtype
                assert bool(step.x.isfinite().all() and step.clean.isfinite().all()), (name, steps)
            if (spec.name, name) not in ILL_MATCHED:
                assert float(seen[-1].x.abs().max()) < (6 if steps >= 10 else 40), (name, steps)


@every
@pytest.mark.parametrize("steps", [1, 2, 7, 25])
def test_a_steady_prediction_is_reached_exactly(spec: SamplerSpec, steps: int) -> None:
    final = run(spec, sigmas_of("Karras", steps), denoise=steady(0.75))
    slack = 5 * LEVELS.sigma_min if spec.name in GIVEN_ENDS else 1e-4
    assert float((final - 0.75).abs().max()) <= slack


@every
def test_it_converges_to_the_exact_solution_at_its_order(spec: SamplerSpec) -> None:
    """Without noise, from sigma 5 to 0.2 on smooth steps, against the quantiles of the exact flow."""
    if spec.order == 0:
        pytest.skip("it follows no ODE")
    x, errors = start(5.0, (1, 1, 8, 8)), list[float]()
    counts = (9, 18) if spec.name == "Restart" else (24, 48, 96)
    for n in counts:
        ramp = torch.linspace(5 ** (1 / 3), 0.2 ** (1 / 3), n + 1, dtype=torch.float64) ** 3
        found = generate(spec.make(own(spec.name, eta=0.0)), x, ramp)
        errors.append(distance(found * math.sqrt(1 + 0.2**2) if counts_time(spec) else found, WORLD.exact(x, 5.0, 0.2)))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert sum(slopes) / len(slopes) > spec.order - 0.3
    assert errors[-1] < 0.02


def counts_time(spec: SamplerSpec) -> bool:
    return spec.start == "unit"


@every
def test_it_is_the_same_every_time_and_after_a_cancelled_run(spec: SamplerSpec) -> None:
    sigmas, sampler = sigmas_of("Karras", 6), spec.make(spec.own)
    x = small()
    first = last(sampler(WORLD.model(), x, sigmas, noise(x)))
    calls = 0

    def counting(x: Tensor, sigma: Tensor, /) -> Prediction:
        nonlocal calls
        calls += 1
        return WORLD.model()(x, sigma)

    total = len(list(sampler(counting, x, sigmas, noise(x))))
    for taken in range(total + 1):
        steps: Iterator[Step] = sampler(counting, x, sigmas, noise(x))
        for _ in islice(steps, taken):
            pass
        before = calls
        steps.close()
        assert calls == before
    assert torch.equal(last(sampler(WORLD.model(), x, sigmas, noise(x))), first)


@every
def test_it_leaves_the_global_generators_and_its_input_alone(spec: SamplerSpec) -> None:
    x = small()
    kept = x.clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what is watched
    last(spec.make(own(spec.name, s_churn=5.0))(WORLD.model(), x, sigmas_of("Karras", 5), noise(x)))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002 - the global state is what is watched
    assert torch.equal(x, kept)


@every
def test_a_picture_does_not_depend_on_its_batch(spec: SamplerSpec) -> None:
    if spec.alone:
        pytest.skip("its images are run one at a time")
    x, sigmas = start(14.6, (3, 2, 4, 4), torch.float32), sigmas_of("Karras", 8)
    together = last(spec.make(own(spec.name, s_churn=4.0))(WORLD.model(), x, sigmas, noise(x, 10)))
    for i in range(3):
        alone = last(spec.make(own(spec.name, s_churn=4.0))(WORLD.model(), x[i : i + 1], sigmas, noise(x[:1], 10 + i)))
        assert torch.equal(together[i], alone[0])


@every
def test_it_takes_noise_only_if_it_says_so(spec: SamplerSpec) -> None:
    x, sigmas, drawn = small(), sigmas_of("Karras", 24), list[tuple[Tensor, Tensor]]()
    source = noise(x)

    def watched(sigma: Tensor, target: Tensor) -> Tensor:
        drawn.append((sigma, target))
        return source(sigma, target)

    last(spec.make(own(spec.name, s_churn=4.0))(WORLD.model(), x, sigmas, silent if spec.noise == "none" else watched))
    assert (spec.noise != "none") == bool(drawn)
    for sigma, target in drawn:
        assert sigma.shape == target.shape == ()
        assert float(target) > 0 or "s_churn" in spec.uses
        if spec.name != "Restart":
            assert float(sigma) >= float(target)


CHANGED = {
    "eta": 0.4,
    "s_churn": 6.0,
    "s_tmin": 2.0,
    "s_tmax": 5.0,
    "s_noise": 1.2,
    "order": 2,
    "variant": "vary_coeff",
    "lower_order_final": False,
}
NEEDS_NOISE = {"s_noise": {"s_churn": 6.0, "eta": 0.5}, "s_tmin": {"s_churn": 6.0}, "s_tmax": {"s_churn": 6.0}}


@every
def test_the_options_it_uses_have_an_effect_and_no_other(spec: SamplerSpec) -> None:
    assert {*CHANGED, "levels"} == {field.name for field in fields(Options)}
    sigmas = sigmas_of("Karras", 24)
    for option, value in CHANGED.items():
        base = NEEDS_NOISE.get(option, {})
        changed = run(spec, sigmas, own(spec.name, **{**base, option: value}))
        same = torch.equal(changed, run(spec, sigmas, own(spec.name, **base)))
        assert same != (option in spec.uses), option


@every
def test_any_order_that_can_be_asked_for_is_finite(spec: SamplerSpec) -> None:
    if "order" not in spec.uses:
        pytest.skip("it has no order")
    for order in (1, 4, 7, 12):
        for steps in (1, 5, 60):
            final = run(spec, sigmas_of(spec.schedule, steps), own(spec.name, order=order))
            assert bool(final.isfinite().all()), (order, steps)


def test_options_out_of_range_are_named() -> None:
    for wrong in ({"order": 0}, {"order": 13}, {"variant": "bh3"}, {"eta": -1.0}, {"s_tmax": math.nan}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Options(**wrong)


@every
def test_it_reads_the_unguided_prediction_only_if_it_says_so(spec: SamplerSpec) -> None:
    def with_unguided(x: Tensor, sigma: Tensor, /) -> Prediction:
        clean = WORLD.model()(x, sigma).clean
        return Prediction(clean, clean * 0.9)

    sigmas = sigmas_of("Karras", 8)
    same = torch.equal(run(spec, sigmas), run(spec, sigmas, denoise=with_unguided))
    assert same != spec.unguided


@every
def test_with_its_noise_it_draws_from_the_world_it_was_shown(spec: SamplerSpec) -> None:
    """Many values at once: their mean, spread and shares must be those of the mixture."""
    if spec.noise == "none" or spec.name == "LCM":
        pytest.skip("the flow is tested by its exact solution; LCM needs a consistency model")
    x = start(14.6146, (1, 1, 72, 72), torch.float32)
    final = last(spec.make(own(spec.name, s_churn=10.0))(WORLD.model(), x, sigmas_of("Karras", 60), noise(x)))
    mean = sum(WORLD.means) / 2
    spread = math.sqrt(WORLD.spread**2 + ((WORLD.means[1] - WORLD.means[0]) / 2) ** 2)
    assert abs(float(final.mean()) - mean) < 0.06
    assert abs(float(final.std()) - spread) < 0.05
    assert abs(float((final > mean).float().mean()) - 0.5) < 0.04


@every
def test_its_schedule_exists(spec: SamplerSpec) -> None:
    assert spec.schedule in schedules()


def test_the_last_step_of_a_sampler_that_counts_in_time_is_in_its_own_scale() -> None:
    """With the schedule that ends at the table's first level, x is left as sqrt(abar) x0 + sqrt(1 - abar) eps."""
    sigmas = sigmas_of("Timesteps", 5)
    scale = math.sqrt(1 + float(sigmas[-1]) ** 2)
    for name in ("DDIM", "PLMS", "UniPC", "DDIM CFG++"):
        assert torch.allclose(run(samplers()[name], sigmas, denoise=steady(1.0)) * scale, torch.ones(()), atol=0.3)
    plain, kept = run(samplers()["Euler"], sigmas), run(samplers()["DDIM"], sigmas)
    assert torch.allclose(kept * scale, plain, atol=1e-6)
