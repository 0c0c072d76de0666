"""What a model and the registries offer: the method that a request names, on the levels that it wants."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.diffusion.catalogue import samplers, schedules
from atelier.errors import BadInput, UnknownName
from atelier.request.model import Request
from atelier.request.resolve import Method, Offer, ignored, resolve
from atelier.request.resolved import (
    ImageRef,
    NoFile,
    NoMask,
    NoUpscale,
    PassPrompts,
    ResolvedHires,
    ResolvedSampling,
    ResolvedSource,
    Size,
    ToSize,
)
from atelier.request.table import request_of
from atelier.runtime.images import reference_to, size_of
from atelier.runtime.notes import overruled
from atelier.runtime.offer import check_schedule, check_suits, defaults_of, drawing, requested_method
from resolved_support import RESOLVED


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Checkpoint:
    return open_checkpoint(tiny_folder)


def asked(**fields: object) -> Request:
    return request_of({"prompt": "p", "seed": 1} | fields)


def method(model: Checkpoint, **fields: object) -> Method:
    return requested_method(model, asked(**fields))


def sampling(model: Checkpoint, **fields: object) -> ResolvedSampling:
    request = asked(**fields)
    offer = Offer(
        RESOLVED.model,
        defaults_of(model),
        requested_method(model, request),
        "Original",
        lambda text, *_: text,
        reference_to,
        size_of,
    )
    return resolve(request, offer).sampling


def test_a_sampler_and_its_schedule(model: Checkpoint) -> None:
    assert sampling(model).model_dump() == {
        "steps": 20,
        "sampler": "DPM++ 2M",
        "scheduler": "Karras",
        "eta": 1.0,
        "s_churn": 0.0,
        "s_tmin": 0.0,
        "s_tmax": 1e9,
        "s_noise": 1.0,
        "order": 1,
        "variant": "bh1",
        "lower_order_final": True,
        "sigma_min": pytest.approx(0.0291671582, rel=1e-6),
        "sigma_max": pytest.approx(14.6146412, rel=1e-6),
        "rho": 7.0,
        "alpha": 0.6,
        "beta": 0.6,
        "discard_penultimate": False,
        "downcast": False,
        "zero_terminal": False,
    }


def test_the_samplers_own_options_are_those_of_its_spec(model: Checkpoint) -> None:
    found = sampling(model, sampler="uni_pc_bh2")
    assert (found.sampler, found.scheduler) == ("UniPC BH2", "Time Uniform")
    assert (found.order, found.variant, found.lower_order_final) == (3, "bh2", True)
    assert sampling(model, sampler="TCD").eta == 0.3
    assert sampling(model, sampler="Euler", scheduler="Polyexponential").rho == 1.0


def test_unknown_names_are_told(model: Checkpoint) -> None:
    with pytest.raises(UnknownName, match="Euler a"):
        method(model, sampler="Eular")
    with pytest.raises(UnknownName, match="Karras"):
        method(model, scheduler="Karas")


@pytest.mark.parametrize("name", samplers())
def test_eta_ddim_is_that_of_ddim_and_ddim_cfg_pp_only(model: Checkpoint, name: str) -> None:
    usual, found = sampling(model, sampler=name).eta, sampling(model, sampler=name, eta_ddim=0.37).eta
    assert found == (0.37 if name in {"DDIM", "DDIM CFG++"} else usual)


@pytest.mark.parametrize("name", samplers())
def test_the_penultimate_sigma_is_discarded_by_a1111s_three_and_by_no_list(model: Checkpoint, name: str) -> None:
    known = {"DPM++ 3M SDE", "DPM2", "DPM2 a"}
    assert sampling(model, sampler=name).discard_penultimate == (name in known)
    assert not sampling(model, sampler=name, scheduler="14, 7, 1, 0").discard_penultimate


def test_a_list_of_sigmas_stays_one_and_has_its_steps(model: Checkpoint) -> None:
    found = sampling(model, sampler="Euler", scheduler="14.6, 7, 3, 0", steps=30, discard_penultimate_sigma=True)
    assert (found.scheduler, found.steps, found.discard_penultimate) == ("14.6, 7, 3, 0", 3, False)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "reads"),
    [
        ("Euler", "Karras", {"s_churn", "s_tmin", "s_tmax", "s_noise", "sigma_min", "sigma_max", "rho"}),
        ("Euler a", "Beta", {"eta", "s_noise", "sigma_min", "sigma_max", "alpha", "beta"}),
        ("UniPC", "Time Uniform", {"order", "variant", "lower_order_final"}),
        ("DPM++ 2M", "Align Your Steps", {"table"}),
        ("PLMS", "Uniform", set[str]()),
    ],
)
def test_what_is_read_is_what_sampler_and_schedule_read(
    model: Checkpoint, sampler: str, scheduler: str, reads: set[str]
) -> None:
    found = method(model, sampler=sampler, scheduler=scheduler)
    assert found.reads == reads
    request = asked(eta=0.5, s_churn=1, rho=3, beta_alpha=0.7, unipc_order=2)
    named = {"eta": "eta", "s_churn": "s_churn", "rho": "rho", "beta_alpha": "alpha", "unipc_order": "order"}
    assert ignored(request, found) == sorted(field for field, name in named.items() if name not in reads)


def test_the_levels_can_be_downcast_or_end_without_signal(model: Checkpoint) -> None:
    """The last abar of Stable Diffusion, 0.0046600, is 0.0046616 in half precision; A1111's terminal one 4.8973e-8."""
    plain, half = sampling(model), sampling(model, downcast_alphas=True)
    terminal = sampling(model, noise_schedule="Zero Terminal SNR")
    both = sampling(model, downcast_alphas=True, noise_schedule="Zero Terminal SNR")
    assert [(s.downcast, s.zero_terminal) for s in (plain, half, terminal, both)] == [
        *((False, False), (True, False)),
        *((False, True), (True, True)),
    ]
    assert plain.sigma_max == pytest.approx(14.6146412, rel=1e-6)
    assert half.sigma_max == pytest.approx(14.6131, abs=0.001)
    assert half.sigma_max != plain.sigma_max
    assert terminal.sigma_max == both.sigma_max == pytest.approx((1 / 4.8973451890853435e-08 - 1) ** 0.5, rel=1e-6)
    assert terminal.sigma_min == pytest.approx(plain.sigma_min, rel=1e-5)


def test_the_default_schedule_of_noise_changes_nothing(model: Checkpoint) -> None:
    assert sampling(model, noise_schedule="Default", downcast_alphas=False) == sampling(model)


@pytest.mark.parametrize("name", schedules())
def test_every_schedule_can_be_named(model: Checkpoint, name: str) -> None:
    found = sampling(model, sampler="Euler", scheduler=name)
    assert (found.scheduler, found.rho) == (name, 7.0 if name == "Karras" else 1.0)


def test_what_a_model_has_where_a_request_leaves_it_open(model: Checkpoint) -> None:
    own = defaults_of(model)
    assert (own.width, own.height, own.side_step, own.latent_step) == (64, 64, 8, 4)


def test_wildcards_are_read_once_and_only_where_one_may_be_named() -> None:
    calls: list[int] = []

    def files() -> dict[str, list[str]]:
        calls.append(1)
        return {"pet": ["cat"]}

    draw = drawing(files, pytest.fail)
    assert draw("a {dog|dog}", "prompt", 1) == "a dog"
    assert calls == []
    assert draw("a __pet__", "prompt", 1) == draw("a __pet__", "prompt", 2) == "a cat"
    assert calls == [1]


@pytest.mark.parametrize(
    ("fields", "blind"),
    [
        ({"scheduler": "Karras", "noise_schedule": "Zero Terminal SNR"}, "Karras: 9 of 20 steps"),
        ({"scheduler": "Exponential", "noise_schedule": "Zero Terminal SNR"}, "Exponential: 6 of 20 steps"),
        ({"scheduler": "Uniform", "noise_schedule": "Zero Terminal SNR"}, None),
        ({"scheduler": "SGM Uniform", "noise_schedule": "Zero Terminal SNR"}, None),
        (
            {"scheduler": "GITS", "noise_schedule": "Zero Terminal SNR"},
            "Align Your Steps GITS: begins at level 14.6",
        ),
        ({"scheduler": "Timesteps", "noise_schedule": "Zero Terminal SNR"}, None),
        ({"scheduler": "Turbo", "noise_schedule": "Zero Terminal SNR"}, None),
        ({"scheduler": "Karras"}, None),
        ({"scheduler": "Align Your Steps"}, None),
    ],
)
def test_a_schedule_that_spends_its_steps_on_pure_noise_is_told(
    model: Checkpoint, fields: dict[str, object], blind: str | None
) -> None:
    request = request_of({"prompt": "", "sampler": "Euler", "steps": 20, **fields})
    method = requested_method(model, request)
    offer = Offer(RESOLVED.model, defaults_of(model), method, "Original", lambda text, *_: text, reference_to, size_of)
    told: list[str] = []
    check_schedule(resolve(request, offer), model, told.append)
    assert len(told) == (blind is not None)
    assert blind is None or told[0].startswith(blind)
    assert blind is None or "with this model Uniform" in told[0]


@pytest.mark.parametrize(("strength", "count"), [(1.0, 1), (0.99, 0)])
def test_where_a_schedule_begins_is_told_where_it_begins_in_noise(
    model: Checkpoint, strength: float, count: int
) -> None:
    source = ResolvedSource(
        image=ImageRef(path="a.png", sha256="12" * 32),
        strength=strength,
        exact_steps=False,
        resize="stretch",
        noise_multiplier=1.0,
        extra_noise=0.0,
        color_correction=False,
        mask=NoMask(),
        upscale=NoUpscale(),
    )
    sampling = RESOLVED.sampling.model_copy(update={"scheduler": "Align Your Steps", "zero_terminal": True})
    told: list[str] = []
    check_schedule(RESOLVED.model_copy(update={"source": source, "sampling": sampling}), model, told.append)
    assert len(told) == count


def test_a_schedule_that_the_samplers_name_overrules_is_told(model: Checkpoint) -> None:
    def told(schedule: str) -> list[str]:
        fields = {"sampler": "DPM++ 2M Karras", "scheduler": schedule}
        return overruled(asked(**fields), method(model, **fields))

    assert told("Exponential") == ["scheduler Exponential is ignored: the sampler's name, DPM++ 2M Karras, says Karras"]
    assert told("karras") == told("Automatic") == told(" automatic ") == []


def test_a_second_pass_whose_guidance_its_model_cannot_use_is_told(model: Checkpoint) -> None:
    other = RESOLVED.model.model_copy(update={"name": "other"})
    guidance = RESOLVED.guidance.model_copy(update={"clip_guidance_scale": 100.0})
    hires = ResolvedHires(
        model=other,
        size=Size(64, 64),
        scaled=Size(64, 64),
        by=ToSize(),
        upscaler="Lanczos",
        upscaler_file=NoFile(),
        strength=0.5,
        exact_steps=False,
        sampling=RESOLVED.sampling,
        guidance=RESOLVED.guidance,
        prompts=(PassPrompts(prompt="a dog", negative_prompt=""),),
    )
    check_suits(RESOLVED.model_copy(update={"hires": hires}), model, model)
    resolved = RESOLVED.model_copy(update={"hires": hires.model_copy(update={"guidance": guidance})})
    for second in (model, None):
        with pytest.raises(BadInput, match=r"CLIP guidance needs an image encoder, which .* has not: leave out clip_g"):
            check_suits(resolved, model, second)
