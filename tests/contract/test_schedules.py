"""What every schedule must do, and the numbers that A1111's are known by."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.diffusion.catalogue import resolve_schedule, schedules
from atelier.diffusion.levels import FlowLevels, scaled_linear
from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, by_hand, run_sigmas
from atelier.errors import BadInput

LEVELS = scaled_linear()
every = pytest.mark.parametrize("spec", schedules().values(), ids=schedules().keys())

# ten steps on Stable Diffusion's levels, as A1111 1.10 makes them
KNOWN = {
    "Uniform": "14.6146 7.8399 4.6092 2.9183 1.9502 1.3449 0.9324 0.6250 0.3687 0.0292 0",
    "Normal": "14.6146 7.8399 4.6092 2.9183 1.9502 1.3449 0.9324 0.6250 0.3687 0.0292 0",
    "Karras": "14.6146 9.1029 5.4784 3.1686 1.7494 0.9141 0.4469 0.2014 0.0819 0.0292 0",
    "Exponential": "14.6146 7.3249 3.6712 1.8400 0.9222 0.4622 0.2317 0.1161 0.0582 0.0292 0",
    "Polyexponential": "14.6146 7.3249 3.6712 1.8400 0.9222 0.4622 0.2317 0.1161 0.0582 0.0292 0",
    "SGM Uniform": "14.6146 8.3072 5.0924 3.3251 2.2797 1.6156 1.1629 0.8319 0.5712 0.3437 0",
    "KL Optimal": "14.6146 4.5650 2.6329 1.7864 1.2948 0.9616 0.7116 0.5094 0.3356 0.1783 0.0292",
    "Align Your Steps": "14.6150 6.1135 3.5651 2.3939 1.6500 1.1358 0.7425 0.4450 0.1692 0.0290 0",
    "Simple": "14.6146 8.3028 5.0878 3.3211 2.2765 1.6129 1.1606 0.8299 0.5693 0.3417 0",
    "DDIM": "8.3907 5.1344 3.3478 2.2929 1.6237 1.1682 0.8357 0.5741 0.3462 0.0413 0",
    "LCM": "14.6146 7.9290 4.6969 2.9911 2.0083 1.3924 0.9728 0.6618 0.4059 0.1345 0",
    "Beta": "14.6146 13.9278 12.4910 10.5976 8.4424 6.2014 4.0462 2.1528 0.7160 0.0292 0",
}


@every
@settings(max_examples=40, deadline=None)
@given(steps=st.integers(1, 400))
def test_it_descends_through_the_models_range(spec: ScheduleSpec, steps: int) -> None:
    sigmas = run_sigmas(spec.make(ScheduleOptions()), LEVELS, steps)
    assert sigmas.dtype == torch.float32
    assert sigmas.ndim == 1
    assert bool((sigmas[:-1] > sigmas[1:]).all())
    assert (float(sigmas[-1]) == 0) == spec.to_zero
    positive = sigmas[sigmas > 0]
    assert float(positive[0]) <= LEVELS.sigma_max * 1.0001
    assert float(positive[-1]) >= LEVELS.sigma_min * 0.99
    if spec.exact:
        assert len(sigmas) == steps + 1


@every
def test_its_options_have_an_effect_and_no_other(spec: ScheduleSpec) -> None:
    plain = run_sigmas(spec.make(ScheduleOptions()), LEVELS, 12)
    changed = {
        "sigma_min": ScheduleOptions(sigma_min=0.1),
        "sigma_max": ScheduleOptions(sigma_max=9.0),
        "rho": ScheduleOptions(rho=4.0),
        "table": ScheduleOptions(table="sdxl"),
        "alpha": ScheduleOptions(alpha=0.9),
        "beta": ScheduleOptions(beta=1.3),
    }
    assert set(changed) == {field.name for field in fields(ScheduleOptions)}
    for option, options in changed.items():
        sigmas = run_sigmas(spec.make(options), LEVELS, 12)
        assert torch.equal(sigmas, plain) != (option in spec.uses), option
        if option == "sigma_min" and option in spec.uses and spec.name != "SGM Uniform":  # it leaves its end out
            assert float(sigmas[sigmas > 0][-1]) == pytest.approx(0.1)
        if option == "sigma_max" and option in spec.uses:
            assert float(sigmas[0]) == pytest.approx(9.0)


@every
def test_it_serves_flow_models(spec: ScheduleSpec) -> None:
    if spec.name.startswith("Align Your Steps"):
        pytest.skip("a table of sigmas of a variance-preserving model")
    sigmas = run_sigmas(spec.make(ScheduleOptions()), FlowLevels(3.0), 10)
    assert bool(sigmas.isfinite().all())
    assert float(sigmas[0]) <= 1.0
    assert bool((sigmas[:-1] > sigmas[1:]).all())


@pytest.mark.parametrize(("name", "row"), KNOWN.items(), ids=KNOWN)
def test_ten_steps_of_stable_diffusion(name: str, row: str) -> None:
    sigmas = run_sigmas(schedules()[name].make(ScheduleOptions()), LEVELS, 10)
    assert sigmas.tolist() == pytest.approx([float(v) for v in row.split()], abs=5.1e-5)


def test_the_range_that_a1111_called_old_karras() -> None:
    sigmas = run_sigmas(schedules()["Karras"].make(ScheduleOptions(0.1, 10.0)), LEVELS, 10)
    known = "10.0000 6.8022 4.5242 2.9341 1.8493 1.1282 0.6629 0.3728 0.1991 0.1000 0"
    assert sigmas.tolist() == pytest.approx([float(v) for v in known.split()], abs=5.1e-5)


def test_schedules_that_count_otherwise_do_as_a1111_does() -> None:
    def count(name: str, steps: int) -> int:
        return len(run_sigmas(schedules()[name].make(ScheduleOptions()), LEVELS, steps))

    assert count("DDIM", 30) == 32
    assert [count("Timesteps", n) for n in (10, 20, 30, 7, 50)] == [10, 20, 31, 8, 50]
    table = run_sigmas(schedules()["Align Your Steps"].make(ScheduleOptions()), LEVELS, 11)
    assert table.tolist() == pytest.approx(
        [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029, 0]
    )


def test_the_penultimate_sigma_can_be_left_out() -> None:
    full = run_sigmas(schedules()["Karras"].make(ScheduleOptions()), LEVELS, 11)
    short = run_sigmas(schedules()["Karras"].make(ScheduleOptions()), LEVELS, 10, discard=True)
    assert short.tolist() == [*full[:-2].tolist(), 0.0]
    assert len(run_sigmas(schedules()["Karras"].make(ScheduleOptions()), LEVELS, 1, discard=True)) == 2


def test_the_quantiles_of_the_beta_distribution_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    from atelier.diffusion.schedules.beta import distribution, quantile

    p = np.array([0.0, 1e-6, 0.01, 0.3, 0.5, 0.77, 0.999, 1.0])
    for a, b in ((0.6, 0.6), (2.0, 3.5), (0.5, 8.0), (0.01, 3.0), (1.0, 1.0), (100.0, 0.02), (60.0, 100.0)):
        assert quantile(p, a, b).tolist() == pytest.approx(stats.beta.ppf(p, a, b).tolist(), rel=1e-9, abs=1e-15)
        x = np.array([1e-5, 0.1, 0.5, 0.9, 1 - 1e-5])
        assert distribution(x, a, b).tolist() == pytest.approx(stats.beta.cdf(x, a, b).tolist(), rel=1e-10)


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.6), (0.8, 0.4), (1.0, 1.0), (2.5, 0.3)])
@pytest.mark.parametrize("steps", [2, 9, 30])
def test_the_shapes_of_beta_are_those_of_a1111_and_comfyui(alpha: float, beta: float, steps: int) -> None:
    """A1111 lays the quantiles over sigma between its two ends, ComfyUI over the timesteps."""
    ppf = pytest.importorskip("scipy.stats").beta.ppf
    options = ScheduleOptions(0.05, 11.0, alpha=alpha, beta=beta)
    wanted = [0.05 + ppf(1 - i / (steps - 1), alpha, beta) * (11.0 - 0.05) for i in range(steps)]
    found = run_sigmas(schedules()["Beta"].make(options), LEVELS, steps)
    assert found.tolist() == pytest.approx([*wanted, 0.0], rel=1e-6)
    times = dict.fromkeys(round(ppf(1 - i / steps, alpha, beta) * 999) for i in range(steps))
    found = run_sigmas(schedules()["Beta in time"].make(options), LEVELS, steps)
    assert found.tolist() == [*(float(LEVELS.sigmas[t]) for t in times), 0.0]


def test_extreme_shapes_of_beta_still_descend() -> None:
    for alpha, beta in ((0.01, 0.01), (0.01, 100.0), (100.0, 0.01), (100.0, 100.0)):
        for name in ("Beta", "Beta in time"):
            sigmas = run_sigmas(schedules()[name].make(ScheduleOptions(alpha=alpha, beta=beta)), LEVELS, 30)
            assert bool((sigmas[:-1] > sigmas[1:]).all()), (name, alpha, beta)
            assert float(sigmas[0]) == pytest.approx(LEVELS.sigma_max)


def test_uniform_steps_in_time_within_a_range() -> None:
    """A1111: linspace between the times of the two levels; SGM Uniform one more of it without the last."""
    options = ScheduleOptions(0.1, 9.0)
    high, low = (float(LEVELS.t(torch.tensor(s))) for s in (9.0, 0.1))
    for name, count in (("Normal", 8), ("SGM Uniform", 9)):
        wanted = LEVELS.sigma(torch.linspace(high, low, count, dtype=torch.float64)[:8])
        found = run_sigmas(schedules()[name].make(options), LEVELS, 8)
        assert found.tolist() == pytest.approx([*wanted.tolist(), 0.0], rel=1e-6)
    wide = ScheduleOptions(1e-4, 200.0)
    assert run_sigmas(schedules()["Normal"].make(wide), LEVELS, 8).tolist() == pytest.approx(
        run_sigmas(schedules()["Normal"].make(ScheduleOptions()), LEVELS, 8).tolist()
    )


def test_the_skip_types_of_unipc() -> None:
    """t from 1 to 1/1000 in equal steps of t, of its square root, of log sigma; level i is that of t = (i + 1)/1000."""
    tables = {
        "time_uniform": torch.linspace(1, 0.001, 11, dtype=torch.float64),
        "time_quadratic": torch.linspace(1, 0.001**0.5, 11, dtype=torch.float64) ** 2,
    }
    log_signal = -0.5 * np.log1p(LEVELS.sigmas.double().numpy() ** 2)
    for name, times in tables.items():
        at = np.interp(times.numpy() * 1000 - 1, np.arange(1000), log_signal)
        found = run_sigmas(resolve_schedule(name).make(ScheduleOptions()), LEVELS, 10)
        assert found.tolist() == pytest.approx(np.sqrt(np.expm1(-2 * at)).tolist(), rel=1e-5)
    logs = run_sigmas(resolve_schedule("logSNR").make(ScheduleOptions()), LEVELS, 10).log()
    assert torch.allclose(logs[1:] - logs[:-1], (logs[1] - logs[0]).expand(10), atol=1e-5)
    assert logs[[0, -1]].exp().tolist() == pytest.approx([LEVELS.sigma_max, LEVELS.sigma_min])


def test_linear_quadratic_is_that_of_its_paper() -> None:
    sigmas = run_sigmas(schedules()["Linear Quadratic"].make(ScheduleOptions()), LEVELS, 50) / LEVELS.sigma_max
    assert sigmas[:26].tolist() == pytest.approx([1 - i / 1000 for i in range(26)], abs=1e-6)
    steps = (sigmas[:-1] - sigmas[1:])[25:].double()
    assert torch.allclose(steps[1:] - steps[:-1], (steps[1] - steps[0]).expand(24), atol=1e-5)


@pytest.mark.parametrize("steps", [0, -3, 10_001])
def test_steps_out_of_range_are_named(steps: int) -> None:
    with pytest.raises(BadInput, match=str(steps)):
        run_sigmas(schedules()["Karras"].make(ScheduleOptions()), LEVELS, steps)


def test_a_list_by_hand_is_taken_as_it_is_or_refused() -> None:
    spec = resolve_schedule("14.6, 7, 3.5, 0")
    assert run_sigmas(spec.make(ScheduleOptions()), LEVELS, 20).tolist() == pytest.approx([14.6, 7, 3.5, 0])
    assert spec.to_zero
    assert not resolve_schedule("14.6, 7, 3.5").to_zero
    for wrong in ([1.0], [1.0, 2.0], [2.0, 2.0], [float("nan"), 0.0], [2.0, -1.0], [0.0, 0.0]):
        with pytest.raises(BadInput):
            by_hand(wrong)
    with pytest.raises(BadInput, match="list of sigmas"):
        resolve_schedule("14, fish, 0")


@pytest.mark.parametrize(
    "options",
    [
        {"sigma_min": -1.0},
        {"rho": 0.0},
        {"sigma_max": float("inf")},
        {"alpha": 0.0},
        {"beta": float("nan")},
        {"beta": 101.0},
    ],
)
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(options))):
        ScheduleOptions(**options)


def test_a_range_the_wrong_way_round_is_named() -> None:
    with pytest.raises(BadInput, match="other way round"):
        run_sigmas(schedules()["Karras"].make(ScheduleOptions(5.0, 2.0)), LEVELS, 5)
