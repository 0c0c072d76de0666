"""Recipes: every key is known, every number is checked before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atelier.errors import BadFile, BadInput
from atelier.train.recipe import differences, digest
from atelier.train.recipes.clip import CLIP
from atelier.train.recipes.vae import VAE
from atelier.train.registry import find, read, recipes
from atelier.train.starts import towers_at, unet_at, vae_at

KINDS = recipes()


@pytest.mark.parametrize(("kind", "size"), [("vae", 128), ("clip", 64), ("denoiser", 128)])
def test_embedded_recipes_are_read(kind: str, size: int) -> None:
    recipe = read(kind, KINDS[kind])
    assert recipe.kind == kind
    assert (recipe.data.source, recipe.data.size) == ("emoji", size)


@pytest.mark.parametrize("kind", ["lora", "dreambooth", "inversion"])
def test_recipes_that_teach_wait_for_images(kind: str) -> None:
    recipe = read(kind, KINDS[kind])
    assert (recipe.kind, recipe.base, recipe.data.source) == (kind, "embedded", "")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_records_is_a_recipe(kind: str, tmp_path: Path) -> None:
    recipe = read(kind, KINDS[kind], {"run.steps": 7})
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    assert read(str(tmp_path / "recipe.json"), KINDS[kind]) == recipe


FREE = {
    "run.steps": 99,
    "run.checkpoint_every": 7,
    "run.accumulate": 2,
    "run.checkpointing": True,
    "run.keep": 9,
    "run.validate_every": 9,
    "run.log_every": 3,
    "run.workers": 5,
    "run.threads": 2,
    "optim.cooldown": 0.9,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_length_and_the_pace_of_saving_may_change(kind: str) -> None:
    recipe = read(kind, KINDS[kind])
    for key, value in FREE.items():
        other = read(kind, KINDS[kind], {key: value})
        assert other != recipe
        assert digest(other) == digest(recipe), key
        assert differences(recipe.model_dump(mode="json"), other) == []


@pytest.mark.parametrize(
    ("key", "value"), [("optim.rate", 0.5), ("run.batch", 5), ("run.seed", 1), ("data.size", 64), ("optim.ema", 0.5)]
)
def test_nothing_else_may_change(key: str, value: float) -> None:
    recipe, other = read("vae", VAE), read("vae", VAE, {key: value})
    assert digest(other) != digest(recipe)
    old = recipe.model_dump(mode="json")
    part, name = key.split(".")
    assert differences(old, other) == [f"{key} was {json.dumps(old[part][name])}, is {json.dumps(value)}"]


def test_another_kind_is_the_only_difference_named() -> None:
    assert differences(read("vae", VAE).model_dump(mode="json"), read("clip", CLIP)) == ["vae, not clip"]


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("vae", {"run.stepz": 5}, r"run\.stepz is no key of a recipe: did you mean run\.steps"),
        ("vae", {"los.gan": 1}, r"los is no key of a recipe"),
        ("vae", {"run.steps": 0}, r"run\.steps = 0: input should be greater than 0"),
        ("vae", {"run.steps": "many"}, r'run\.steps = "many": input should be a valid integer'),
        ("vae", {"optim.rate": float("nan")}, r"optim\.rate = NaN: input should be a finite number"),
        ("vae", {"optim.betas": [0.9, 1.0]}, r"optim\.betas\.1 = 1\.0: input should be less than 1"),
        ("vae", {"run": 3}, r"run is a table of keys, not 3"),
        ("vae", {"data.size": 62}, r"data\.size: 62 is not divisible by the autoencoder's factor, 8"),
        ("vae", {"model.widths": [24, 50]}, r"model\.widths: 50 is not divisible by model\.groups, 4"),
        ("vae", {"model.widths": []}, r"model\.widths = \[\]"),
        ("vae", {"loss.gan_width": 6}, r"loss\.gan_width = 6: input should be a multiple of 4"),
        ("vae", {"learn": "decoder"}, r'learn = "decoder" needs begin'),
        ("vae", {"data.shares": [0, 0, 0]}, r"data\.shares = \[0\.0, 0\.0, 0\.0\]: no scene is left"),
        ("vae", {"data.shares": [1, -1, 1]}, r"data\.shares\.1 = -1: input should be greater"),
        ("clip", {"data.size": 60}, r"data\.size: 60 is not divisible by model\.patch, 8"),
        ("clip", {"model.heads": 7}, r"model\.width: 160 is not divisible by model\.heads, 7"),
        ("clip", {"model.vocab": 100}, r"model\.vocab = 100: input should be greater than or equal to 514"),
        ("clip", {"model.positions": 2}, r"model\.positions = 2"),
        ("denoiser", {"model.depth": [0, 1]}, r"model\.widths, model\.depth and model\.heads need one number"),
        ("denoiser", {"model.depth": [0, 1, 2]}, r"model\.depth must end in 0 or model\.mid_depth \(1\)"),
        ("denoiser", {"model.heads": [2, 3, 8]}, r"model\.widths: 128 is not divisible by model\.heads, 3"),
        ("denoiser", {"loss.prediction": "noise"}, r'loss\.prediction = "noise": input should be'),
        ("vae", {"optim.kind": "adamm"}, r"optim\.kind = \"adamm\": input should be 'adamw', 'adamw8bit'"),
        ("vae", {"optim.warmup": 2.5}, r"optim\.warmup = 2\.5: give whole steps, or below 1 a share of the run"),
        ("denoiser", {"times.least": 0.9, "times.most": 0.1}, r"times\.least = 0\.9 is not below times\.most = 0\.1"),
        ("denoiser", {"loss.snr_gamma": 0}, r"loss\.snr_gamma = 0: input should be greater than 0"),
    ],
)
def test_bad_numbers_are_named(kind: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadFile, match=told) as caught:
        read(kind, KINDS[kind], changes)
    assert str(caught.value).startswith(f"{kind}: ")
    assert "\n" not in str(caught.value)


def test_a_key_below_a_number_is_refused() -> None:
    with pytest.raises(BadInput, match=r"kind\.x: kind is no table of the recipe"):
        read("vae", VAE, {"kind.x": 1})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"kind = ", "is no recipe: "),
        (b"\xff\xfe", "is no recipe: "),
        (b'kind = "vae"', "run is missing"),
        (b'kind = "clip"', "is a recipe of kind 'clip', not 'vae'"),
        (b"steps = 3", "is a recipe of kind None, not 'vae'"),
    ],
)
def test_a_bad_file_is_named(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=told) as caught:
        read(str(path), VAE)
    assert str(caught.value).startswith(str(path))


def test_no_such_recipe_names_the_embedded_ones() -> None:
    names = "clip, control, denoiser, dreambooth, image-prompt, inversion, lora, vae"
    with pytest.raises(BadFile, match=rf"mine\.toml: no such recipe: give a TOML file, or one of {names}"):
        find("mine.toml", KINDS)


def test_a_run_whose_recipe_is_damaged_differs() -> None:
    assert differences({"kind": "vae", "run": 5}, read("vae", VAE))


def test_a_recipe_too_deep_to_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(BadFile, match=r"deep\.json: is no recipe"):
        read(str(tmp_path / "deep.json"), VAE)


@pytest.mark.parametrize("find", [vae_at, towers_at, unet_at])
def test_a_single_file_is_no_beginning(find: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(BadFile, match=r"a\.safetensors: is a single file, .*models convert .*a\.safetensors FOLDER"):
        find(tmp_path / "a.safetensors")
