"""Samplers and schedules against k-diffusion, on the same network with the same noise."""

from __future__ import annotations

import importlib
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from atelier.diffusion.brownian import brownian
from atelier.diffusion.catalogue import samplers, schedules
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.scheduling import ScheduleOptions, run_sigmas
from atelier.diffusion.types import NoiseSource
from diffusion_support import Mixture, distance, last, noise_for, own, start

pytest.importorskip("torchsde")


@pytest.fixture(scope="module")
def kd() -> Iterator[ModuleType]:
    """k_diffusion.sampling alone: the package itself wants torchvision and others that its samplers never use."""
    found = find_spec("k_diffusion")
    if found is None or found.origin is None:
        pytest.skip("k-diffusion is not installed")
    package = ModuleType("k_diffusion")
    package.__path__ = [str(Path(found.origin).parent)]
    fakes = {name: mock.MagicMock() for name in ("torchvision", "torchvision.transforms")}
    with mock.patch.dict(sys.modules, {"k_diffusion": package, **fakes}):
        yield importlib.import_module("k_diffusion.sampling")


@contextmanager
def in_double_precision() -> Iterator[None]:
    """k-diffusion makes the times of DPM-Solver in torch's default precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _sigmas(n: int, dtype: torch.dtype) -> Tensor:
    return run_sigmas(schedules()["Karras"].make(ScheduleOptions()), scaled_linear(), n).to(dtype)


def _theirs(
    kd: ModuleType, function: str, x: Tensor, sigmas: Tensor, noise: NoiseSource | None, **options: Any
) -> Tensor:
    denoise = Mixture().model()

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        return denoise(x, sigma).clean

    if noise is not None:
        options["noise_sampler"] = noise
    return getattr(kd, function)(model, x, sigmas, disable=True, **options)


CASES: list[tuple[str, str, dict[str, float], dict[str, Any]]] = [
    ("Euler", "sample_euler", {}, {}),
    ("Heun", "sample_heun", {}, {}),
    ("DPM++ 2M", "sample_dpmpp_2m", {}, {}),
    ("Euler a", "sample_euler_ancestral", {}, {}),
    ("Euler a", "sample_euler_ancestral", {"eta": 0.5, "s_noise": 1.03}, {"eta": 0.5, "s_noise": 1.03}),
    ("Euler a", "sample_euler_ancestral", {"eta": 0.0}, {"eta": 0.0}),
    ("DPM++ SDE", "sample_dpmpp_sde", {}, {}),
    ("DPM++ SDE", "sample_dpmpp_sde", {"eta": 0.4, "s_noise": 0.97}, {"eta": 0.4, "s_noise": 0.97}),
    ("LMS", "sample_lms", {}, {}),
    ("LMS", "sample_lms", {"order": 2}, {"order": 2}),
    ("DPM2", "sample_dpm_2", {}, {}),
    ("DPM2 a", "sample_dpm_2_ancestral", {}, {}),
    ("DPM2 a", "sample_dpm_2_ancestral", {"eta": 0.6, "s_noise": 1.1}, {"eta": 0.6, "s_noise": 1.1}),
    ("DPM++ 2S a", "sample_dpmpp_2s_ancestral", {}, {}),
    ("DPM++ 2S a", "sample_dpmpp_2s_ancestral", {"eta": 0.3, "s_noise": 0.9}, {"eta": 0.3, "s_noise": 0.9}),
    ("DPM++ 2S", "sample_dpmpp_2s_ancestral", {}, {"eta": 0.0}),
    ("DPM++ 2M SDE", "sample_dpmpp_2m_sde", {}, {}),
    ("DPM++ 2M SDE", "sample_dpmpp_2m_sde", {"eta": 0.5, "s_noise": 1.02}, {"eta": 0.5, "s_noise": 1.02}),
    ("DPM++ 2M SDE Heun", "sample_dpmpp_2m_sde", {}, {"solver_type": "heun"}),
    ("DPM++ 3M SDE", "sample_dpmpp_3m_sde", {}, {}),
    ("DPM++ 3M SDE", "sample_dpmpp_3m_sde", {"eta": 0.5, "s_noise": 1.02}, {"eta": 0.5, "s_noise": 1.02}),
    ("DPM++ 3M", "sample_dpmpp_3m_sde", {}, {"eta": 0.0}),
]
# k-diffusion's own functions fail on a single step.
UNFIT_FOR_ONE = {"sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde"}
NOISELESS = {"sample_euler", "sample_heun", "sample_dpmpp_2m", "sample_lms", "sample_dpm_2"}


# In single precision, k-diffusion's coefficients cancel where there are few, long steps.
RUNS = [(torch.float64, 1e-9, n) for n in (1, 2, 3, 10, 30)] + [(torch.float32, 1e-5, n) for n in (10, 30)]


@pytest.mark.parametrize(("name", "function", "options", "theirs"), CASES)
def test_samplers(kd: ModuleType, name: str, function: str, options: dict[str, float], theirs: dict[str, Any]) -> None:
    for dtype, tolerance, steps in RUNS:
        if steps == 1 and function in UNFIT_FOR_ONE:
            continue
        sigmas, x = _sigmas(steps, dtype), start(14.6146, dtype=dtype)
        ours = last(samplers()[name].make(own(name, **options))(Mixture().model(), x, sigmas, noise_for(x)))
        noise = None if function in NOISELESS else noise_for(x)
        assert distance(ours, _theirs(kd, function, x, sigmas, noise, **theirs)) < tolerance, (dtype, steps)


@pytest.mark.parametrize(("name", "function"), dict.fromkeys(case[:2] for case in CASES if not case[3]))
def test_the_samplers_own_options_are_its_defaults(kd: ModuleType, name: str, function: str) -> None:
    defaults = {n: p.default for n, p in inspect.signature(getattr(kd, function)).parameters.items()}
    spec = samplers()[name]
    for option in spec.uses:
        assert getattr(spec.own, option) == defaults[option], option


def test_the_schedules_own_rho_is_its_default(kd: ModuleType) -> None:
    assert schedules()["Karras"].rho == inspect.signature(kd.get_sigmas_karras).parameters["rho"].default
    assert (
        schedules()["Polyexponential"].rho == inspect.signature(kd.get_sigmas_polyexponential).parameters["rho"].default
    )


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("calls", [2, 3, 4, 5, 15, 31])
def test_dpm_fast(kd: ModuleType, calls: int, eta: float) -> None:
    sigmas, x = _sigmas(calls, torch.float64), start(14.6146)
    ours = last(samplers()["DPM fast"].make(own("DPM fast", eta=eta))(Mixture().model(), x, sigmas, noise_for(x)))
    denoise = Mixture().model()
    low, high = float(sigmas[-2]), float(sigmas[0])
    with in_double_precision():
        theirs = kd.sample_dpm_fast(
            lambda x, s: denoise(x, s).clean, x, low, high, calls, disable=True, eta=eta, noise_sampler=noise_for(x)
        )
    assert distance(ours, theirs) < 1e-7


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_dpm_adaptive(kd: ModuleType, eta: float) -> None:
    sigmas, x = _sigmas(10, torch.float64), start(14.6146)
    steps = list(
        samplers()["DPM adaptive"].make(own("DPM adaptive", eta=eta))(Mixture().model(), x, sigmas, noise_for(x))
    )
    denoise = Mixture().model()
    with in_double_precision():
        theirs, info = kd.sample_dpm_adaptive(
            lambda x, s: denoise(x, s).clean,
            x,
            float(sigmas[-2]),
            float(sigmas[0]),
            disable=True,
            eta=eta,
            noise_sampler=noise_for(x),
            return_info=True,
        )
    assert len(steps) == info["n_accept"]
    assert distance(steps[-1].x, theirs) < 1e-9


@pytest.mark.parametrize(
    ("name", "function"), [("Euler", "sample_euler"), ("Heun", "sample_heun"), ("DPM2", "sample_dpm_2")]
)
@pytest.mark.parametrize("window", [(0.0, math.inf), (0.3, 5.0)])
def test_churn(kd: ModuleType, name: str, function: str, window: tuple[float, float]) -> None:
    sigmas, x = _sigmas(12, torch.float64), start(14.6146)
    churn = {"s_churn": 6.0, "s_tmin": window[0], "s_tmax": window[1], "s_noise": 1.007}
    ours = last(samplers()[name].make(own(name, **churn))(Mixture().model(), x, sigmas, noise_for(x)))
    drawn = noise_for(x)
    with mock.patch.object(torch, "randn_like", side_effect=lambda _: drawn(sigmas[0], sigmas[1])):
        theirs = _theirs(kd, function, x, sigmas, None, **churn)
    assert distance(ours, theirs) < 1e-9
    assert distance(ours, _theirs(kd, function, x, sigmas, None)) > 1e-3


@pytest.mark.parametrize("steps", [2, 10, 37])
def test_schedules(kd: ModuleType, steps: int) -> None:
    levels = scaled_linear()
    ends = {"sigma_min": levels.sigma_min, "sigma_max": levels.sigma_max}
    cases: list[tuple[str, ScheduleOptions, Callable[[], Tensor]]] = [
        ("Karras", ScheduleOptions(), lambda: kd.get_sigmas_karras(steps, **ends)),
        ("Karras", ScheduleOptions(0.1, 10.0, 5.0), lambda: kd.get_sigmas_karras(steps, 0.1, 10.0, 5.0)),
        ("Exponential", ScheduleOptions(), lambda: kd.get_sigmas_exponential(steps, **ends)),
        ("Polyexponential", ScheduleOptions(rho=1.7), lambda: kd.get_sigmas_polyexponential(steps, **ends, rho=1.7)),
    ]
    for name, options, theirs in cases:
        assert torch.allclose(run_sigmas(schedules()[name].make(options), levels, steps), theirs(), rtol=2e-5)


@pytest.mark.parametrize("source", ["cpu", "nv"])
def test_brownian_noise_is_that_of_the_brownian_tree(kd: ModuleType, source: str) -> None:
    """A1111 replaces torchsde's draws by those of its noise source; for torch's CPU generator they are the same."""
    import torchsde

    from atelier.diffusion.rng import stream

    x = torch.zeros(2, 4, 6, 5)
    low, high, seeds = 0.0291671582, 14.6146412, [1234567, 2**33 + 5]

    def randn(size: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: np.uint32) -> Tensor:
        return stream(int(seed), source).normal(size).to(dtype)

    with mock.patch.object(torchsde._brownian.brownian_interval, "_randn", randn):
        theirs = kd.BrownianTreeNoiseSampler(x, torch.tensor(low), torch.tensor(high), seeds)
        ours = brownian(seeds, x, low, high, source)
        sigmas = _sigmas(10, torch.float32)[:-1]
        for a, b in [*itertools.pairwise(sigmas), (sigmas[3], sigmas[5]), (sigmas[0], sigmas[-1])]:
            assert torch.allclose(ours(a, b), theirs(a, b), atol=2e-5)
