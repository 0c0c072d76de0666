"""Autoencoders of the same shapes for other latents: refused where a file says so, told of where its name does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import tiny
from atelier.checkpoints.latent_hints import stated_scale, suggested_scale
from atelier.checkpoints.write import write_diffusers, write_ldm
from atelier.errors import BadFile
from atelier.runtime.engine import Engine
from pipeline_support import engine_on, request

SD, XL = 0.18215, 0.13025
VAE = "first_stage_model."


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the latents of Stable Diffusion 1; its autoencoder alone, in files that say that it is another's."""
    folder = tmp_path_factory.mktemp("hints")
    model = tiny.modules()
    write_ldm(replace(model, facts=replace(model.facts, latent_scale=SD)), folder / "photo.safetensors")
    scaled = replace(model, facts=replace(model.facts, latent_scale=XL))
    write_ldm(scaled, folder / "scaled.safetensors")
    write_diffusers(scaled, folder / "folder")
    tensors = {n: t for n, t in load_file(folder / "photo.safetensors").items() if n.startswith(VAE)}
    (folder / "vae").mkdir()
    architecture = {"modelspec.architecture": "stable-diffusion-xl-v1-base/vae"}
    save_file(tensors, folder / "vae" / "told.safetensors", architecture)
    for name in ("sdxl_vae", "vae-ft-mse-840000-ema-pruned", "plain"):
        save_file(tensors, folder / "vae" / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def engine(shelf: Path) -> Engine:
    return engine_on(shelf / "photo.safetensors")


def told(engine: Engine, vae: str) -> list[str]:
    return engine.settle(request(model="photo", vae=vae))[1]


@pytest.mark.parametrize("vae", ["scaled.safetensors", "folder", "folder/vae", "vae/told.safetensors"])
def test_one_that_says_that_it_is_anothers_is_refused(vae: str, shelf: Path, engine: Engine):
    wanted = "has latents of the scale 0.13025, of Stable Diffusion XL, where this model's have 0.18215"
    with pytest.raises(BadFile, match=wanted) as caught:
        told(engine, str(shelf / vae))
    assert caught.value.field == "vae"
    assert stated_scale(shelf / vae) == XL


def test_a_name_is_only_told_of(engine: Engine, shelf: Path):
    said = (
        "its name says that it is of Stable Diffusion XL, and photo is of Stable Diffusion 1 and 2: images may be noise"
    )
    assert told(engine, "sdxl_vae.safetensors") == [f"vae sdxl_vae.safetensors: {said}"]
    for fitting in ("vae-ft-mse-840000-ema-pruned", "plain", str(shelf / "photo.safetensors")):
        assert told(engine, fitting) == []


def test_a_folder_without_a_scale_says_nothing(shelf: Path, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    assert stated_scale(tmp_path) is None
    assert stated_scale(shelf / "vae" / "plain.safetensors") is None
    assert stated_scale(shelf / "photo.safetensors") == SD


NAMES = {
    "sdxl_vae.safetensors": XL,
    "sdxl.vae.safetensors": XL,
    "sdxl-vae-fp16-fix.safetensors": XL,
    "xlVAEC_e7.safetensors": XL,
    "SD XL v1.0 VAE.safetensors": XL,
    "vae-ft-mse-840000-ema-pruned.ckpt": SD,
    "kl-f8-anime2.ckpt": SD,
    "orangemix.vae.pt": SD,
    "clearvae_v23.safetensors": SD,
    "photo.vae.safetensors": None,
    "exlibris.vae.pt": None,
    "diffusion_pytorch_model.safetensors": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_published_names_are_known(name: str):
    assert suggested_scale(name) == NAMES[name]
