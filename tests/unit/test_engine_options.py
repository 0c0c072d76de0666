"""What is asked of an engine arrives where it acts: on a tiny random model, by what the pixels have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier.models.unet import UNet
from atelier.request.infotext import read, to_request
from atelier.request.model import Request
from atelier.request.resolved import SaidSize, Size
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1)


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return Engine(CPU, Library((tiny_folder.parent,)), HashCache(), version="1")


def request(**fields: object) -> Request:
    return request_of({"prompt": "a red cat", "model": "tiny", "steps": 3, "seed": 7} | fields)


def pixels(engine: Engine, **fields: object) -> bytes:
    (image,) = engine.generate(request(**fields))
    return image.image.tobytes()


def first_seen(engine: Engine, monkeypatch: pytest.MonkeyPatch, **fields: object) -> torch.Tensor:
    """The latent (4, h, w) that the network is shown first, in units of its standard deviation for plain noise."""
    seen: list[torch.Tensor] = []

    def watched(self: UNet, x: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        seen.append(x.clone())
        return forward(self, x, *rest, **more)

    forward = UNet.forward
    with monkeypatch.context() as patch:
        patch.setattr(UNet, "forward", watched)
        engine.generate(request(rng="cpu", cfg_scale=1, sampler="Euler", width=64, height=96, **fields))
    return seen[0][0] / (SIGMA / (1 + SIGMA**2) ** 0.5)


def drawn(seed: int, height: int, width: int) -> torch.Tensor:
    return torch.randn((4, height, width), generator=torch.Generator().manual_seed(seed))


SIGMA = 14.6146412


def test_the_first_noise_is_that_of_the_seed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of torch's CPU generator, on latents of 24 rows and 16 columns."""
    assert torch.allclose(first_seen(engine, monkeypatch), drawn(7, 24, 16), atol=1e-5)
    varied = first_seen(engine, monkeypatch, variation_seed=9, variation_strength=1)
    assert torch.allclose(varied, drawn(9, 24, 16), atol=1e-5)
    unit = first_seen(engine, monkeypatch, sgm_noise_multiplier=True)
    assert torch.allclose(unit * SIGMA / (1 + SIGMA**2) ** 0.5, drawn(7, 24, 16), atol=1e-5)


def test_a_resized_seed_keeps_its_rows_and_columns(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As A1111: 16 rows of 24 columns are cut to 16 columns, and stand in the middle of the 24 rows."""
    found = first_seen(engine, monkeypatch, seed_resize=(96, 64))
    assert torch.allclose(found[:, 4:20], drawn(7, 16, 24)[:, :, 4:20], atol=1e-5)
    around = drawn(7, 24, 16)
    assert torch.allclose(found[:, :4], around[:, :4], atol=1e-5)
    assert torch.allclose(found[:, 20:], around[:, 20:], atol=1e-5)


def test_the_size_that_a_seed_is_resized_from_is_width_and_height(engine: Engine) -> None:
    tall = pixels(engine, width=64, height=96)
    assert pixels(engine, width=64, height=96, seed_resize=(64, 96)) == tall
    assert pixels(engine, width=64, height=96, seed_resize=(96, 64)) != tall
    assert pixels(engine, width=64, height=96, seed_resize=(0, 96)) == tall
    noise = engine.resolve(request(width=64, height=96, seed_resize=(96, 128))).noise
    assert noise.resized_from == SaidSize(size=Size(96, 128))


@pytest.mark.parametrize("sampler", ["DDIM", "DDIM CFG++"])
def test_eta_ddim_is_the_eta_of_ddim_and_of_ddim_cfg_pp(engine: Engine, sampler: str) -> None:
    noisy = pixels(engine, sampler=sampler, eta_ddim=1.0)
    assert noisy == pixels(engine, sampler=sampler, eta=1.0) == pixels(engine, sampler=sampler, eta=0.5, eta_ddim=1.0)
    assert noisy != pixels(engine, sampler=sampler)
    assert pixels(engine, sampler=sampler, eta_ddim=0) == pixels(engine, sampler=sampler)


def test_eta_ddim_is_nothing_to_others(engine: Engine) -> None:
    assert pixels(engine, sampler="Euler a", eta_ddim=0.2) == pixels(engine, sampler="Euler a")


def test_ngms_leaves_guidance_out_every_other_call_or_always(engine: Engine) -> None:
    always = pixels(engine, ngms=1000, ngms_all_steps=True)
    other = pixels(engine, ngms=1000)
    assert always == pixels(engine, cfg_scale=1)
    assert len({always, other, pixels(engine)}) == 3
    assert pixels(engine, ngms_all_steps=True) == pixels(engine)


def test_early_guidance_can_be_skipped(engine: Engine) -> None:
    assert pixels(engine, skip_early_cfg=1) == pixels(engine, cfg_scale=1)


def test_no_limit_is_the_usual_one(engine: Engine) -> None:
    churned = {"sampler": "Euler", "s_churn": 10.0}
    assert pixels(engine, **churned, s_tmax=0) == pixels(engine, **churned) == pixels(engine, **churned, s_tmax=1000)
    assert pixels(engine, **churned, s_tmax=3) != pixels(engine, **churned)


@pytest.mark.parametrize("fields", [{"downcast_alphas": True}, {"noise_schedule": "Zero Terminal SNR"}], ids=str)
def test_the_models_levels_can_be_others(engine: Engine, fields: dict[str, object]) -> None:
    assert pixels(engine, sampler="Euler", scheduler="Uniform", **fields) != pixels(
        engine, sampler="Euler", scheduler="Uniform"
    )


def test_the_range_of_the_model_is_the_usual_one(engine: Engine) -> None:
    levels = engine.resolve(request()).sampling
    assert pixels(engine, sigma_min=levels.sigma_min, sigma_max=levels.sigma_max, rho=7) == pixels(engine)


def test_a_list_of_sigmas_is_taken_as_it_is(engine: Engine) -> None:
    listed = {"scheduler": "14.6, 3, 1, 0", "sampler": "DPM2"}
    usual = pixels(engine, **listed)
    assert pixels(engine, **listed, discard_penultimate_sigma=True) == usual
    assert pixels(engine, **listed, steps=9) == usual


def test_a_variation_of_none_and_of_all_are_the_two_seeds(engine: Engine) -> None:
    assert pixels(engine, variation_seed=9, variation_strength=1, sampler="DPM++ 2M") == pixels(
        engine, seed=9, sampler="DPM++ 2M"
    )
    assert pixels(engine, variation_seed=9, variation_strength=0) == pixels(engine)


UNUSUAL = (
    {"sampler": "Euler", "s_churn": 8.0, "s_tmin": 0.5, "s_tmax": 9.0, "s_noise": 1.1, "rng": "cpu"},
    {"sampler": "DDIM CFG++", "eta_ddim": 0.6},
    {"sampler": "Euler a", "eta": 0.5, "ensd": 31337, "rng": "nv"},
    {"sampler": "UniPC BH2", "unipc_order": 2, "unipc_variant": "vary_coeff", "unipc_lower_order_final": False},
    {"scheduler": "Beta", "beta_alpha": 0.8, "beta_beta": 1.2, "sigma_min": 0.1, "sigma_max": 9.0},
    {"scheduler": "Karras", "rho": 3.0, "discard_penultimate_sigma": True, "downcast_alphas": True},
    {"noise_schedule": "Zero Terminal SNR", "sgm_noise_multiplier": True, "cfg_rescale": 0.7},
    {"width": 64, "height": 96, "seed_resize": (96, 128), "variation_seed": 3, "variation_strength": 0.3},
    {"ngms": 5.0, "ngms_all_steps": True, "skip_early_cfg": 0.4, "clip_skip": 2, "emphasis": "No norm"},
    {"scheduler": "14.6, 3, 1, 0", "prompt": "a {red|blue} [cat:dog:0.3]", "old_timelines": True},
)


@pytest.mark.parametrize("fields", UNUSUAL, ids=", ".join)
def test_an_infotext_generates_its_image_again(engine: Engine, fields: dict[str, object]) -> None:
    (image,) = engine.generate(request(**fields))
    (again,) = engine.generate(to_request(read(image.infotext)))
    assert again.image.tobytes() == image.image.tobytes()
    assert image.image.tobytes() != pixels(engine)
