"""What a teaching leaves: files that say how they came about, and nothing of the machine."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import taught_support as teaching
import training_support as support
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.text import ClipTower
from atelier.errors import BadInput
from atelier.prompt import Weighted, chunk
from atelier.request.events import Failed
from atelier.train.folder import LATENTS
from atelier.train.runner import run_recipe
from atelier.train.teaching.base import Caption, conditioning_of, opened
from atelier.weights.formats import safetensors

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
DESCRIPTION = """
[general]
resolution = 32
enable_bucket = true
bucket_reso_steps = 8
min_bucket_reso = 16

[[datasets]]
  [[datasets.subsets]]
  image_dir = "photos"
  flip_aug = true
  random_crop = {drawn}
  shuffle_caption = true
  keep_tokens = 2
  caption_dropout_rate = 0.25
  caption_dropout_every_n_epochs = 3
  caption_tag_dropout_rate = 0.5
"""


def taught(kind: str, told: dict[str, Any], run: Path) -> dict[str, str]:
    """What the file of a run says of itself."""
    events = list(run_recipe(support.known()[kind], support.recipe(kind, told), support.placement(), run))
    assert not isinstance(events[-1], Failed), events[-1]
    return dict(safetensors.read_header(run / "taught.safetensors").metadata)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Wider than high."""
    folder = teaching.images(tmp_path / "home" / "anna" / "photos")
    from PIL import Image

    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            wide = image.resize((56, 40))
        wide.save(path)
    return folder


@pytest.mark.parametrize("drawn", [True, False])
def test_kohyas_description_says_how_images_are_shown(
    drawn: bool, tiny_file: Path, photos: Path, tmp_path: Path
) -> None:
    """A part that is drawn anew in each step is not kept: a file for each would fill the disk."""
    file = photos.parent / "data.toml"
    file.write_text(DESCRIPTION.format(drawn=str(drawn).lower()))
    more: dict[str, Any] = {"run__steps": 3, "data__size": None, "optim__warmup": 0.5}
    said = taught("lora", teaching.changes("lora", tiny_file, file, **more), tmp_path / "run")
    kept = list((tmp_path / "run" / LATENTS).glob("*.npz"))
    assert not kept if drawn else kept
    keys = ("flip_aug", "random_crop", "cache_latents", "enable_bucket", "shuffle_caption")
    assert [said[f"ss_{key}"] for key in keys] == ["True", str(drawn), str(not drawn), "True", "True"]
    assert (said["ss_keep_tokens"], said["ss_caption_dropout_rate"]) == ("2", "0.25")
    assert (said["ss_caption_dropout_every_n_epochs"], said["ss_caption_tag_dropout_rate"]) == ("3", "0.5")
    assert said["ss_bucket_info"] == '{"buckets": {"0": {"resolution": [40, 24], "count": 4}}}'
    limits = ("bucket_no_upscale", "min_bucket_reso", "max_bucket_reso")
    assert [said[f"ss_{key}"] for key in limits] == ["False", "16", "1024"]
    assert (said["ss_resolution"], said["modelspec.resolution"]) == ("(32, 32)", "32x32"), "not that of a bucket"
    epochs = ("num_batches_per_epoch", "num_epochs", "epoch", "lr_warmup_steps")
    assert [said[f"ss_{key}"] for key in epochs] == ["2", "2", "2", "1"]


@pytest.mark.parametrize(("key", "value"), [("flip", True), ("prefix", "zwx"), ("dropout", 0.5)])
def test_what_the_description_says_is_not_said_twice(
    key: str, value: object, tiny_file: Path, photos: Path, tmp_path: Path
) -> None:
    file = photos.parent / "data.toml"
    file.write_text(DESCRIPTION.format(drawn="false"))
    told = {**teaching.changes("lora", tiny_file, file, data__size=None), f"data.{key}": value}
    with pytest.raises(BadInput, match=rf"data\.{key} = .*: .*data\.toml says how its images are shown; say it there"):
        teaching.task("lora", told, tmp_path / "run")


@pytest.mark.parametrize("kind", ["lora", "dreambooth"])
def test_files_to_be_shared_name_no_folders(kind: str, tiny_file: Path, photos: Path, tmp_path: Path) -> None:
    told = teaching.changes(kind, tiny_file, photos, run__steps=2)
    said = taught(kind, told, tmp_path / "run")
    recipe = json.loads(said["atelier.recipe"])
    assert (recipe["base"], recipe["data"]["source"], recipe["data"]["size"]) == (tiny_file.name, "photos", 32)
    assert not [key for key, value in said.items() if str(tmp_path) in value or str(tiny_file.parent) in value]


def test_a_run_that_goes_on_began_when_it_began(tiny_file: Path, photos: Path, tmp_path: Path) -> None:
    run, told = tmp_path / "run", teaching.changes("lora", tiny_file, photos, run__steps=2)
    taught("lora", told, run)
    os.utime(run / "recipe.json", (1_000_000, 1_000_000))
    longer = taught("lora", {**told, "run.steps": 3}, run)
    newest = run / "checkpoints" / "step-00000003" / "MANIFEST.json"
    times = [float(longer[f"ss_training_{what}_at"]) for what in ("started", "finished")]
    assert times == [1_000_000, newest.stat().st_mtime]
    before = (run / "taught.safetensors").read_bytes()
    refused = {**told, "run.steps": 3, "adapter.rank": 2}
    events = list(run_recipe(support.known()["lora"], support.recipe("lora", refused), support.placement(), run))
    assert isinstance(events[-1], Failed)
    taught("lora", {**told, "run.steps": 3}, run)
    assert (run / "taught.safetensors").read_bytes() == before


@pytest.mark.parametrize("more", [{}, {"adapter__dora": True, "targets__text": True}])
def test_an_adapter_is_written_without_the_networks_it_was_trained_beside(
    more: dict[str, Any], tiny_file: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which lie in memory once already."""
    told = teaching.changes("lora", tiny_file, photos, run__steps=1, clip_skip=2, **more)
    said = taught("lora", told, tmp_path)
    assert (said["ss_clip_skip"], said["modelspec.encoder_layer"]) == ("2", "2")
    before = (tmp_path / "taught.safetensors").read_bytes()
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: pytest.fail("a network was loaded"))
    support.known()["lora"].export(support.recipe("lora", told), tmp_path)
    assert (tmp_path / "taught.safetensors").read_bytes() == before


def test_a_model_that_is_taught_noise_alone_says_so(tiny_file: Path, photos: Path, tmp_path: Path) -> None:
    told = teaching.changes("dreambooth", tiny_file, photos, run__steps=1, loss__zero_snr=True)
    task = teaching.task("dreambooth", told, tmp_path / "task")
    assert float(task.base.levels.sigmas[-1]) > 1000
    assert float(opened(str(tiny_file)).levels.sigmas[-1]) < 20
    taught("dreambooth", told, tmp_path / "run")
    assert opened(str(tmp_path / "run" / "taught.safetensors")).facts.zero_snr


def test_another_layer_of_the_text_encoder_is_read(tiny_file: Path, photos: Path, tmp_path: Path) -> None:
    base = teaching.task("lora", teaching.changes("lora", tiny_file, photos, clip_skip=2), tmp_path).base
    (tower,) = base.encoder.towers
    assert isinstance(tower, ClipTower)
    found = conditioning_of(base, base.encoder, [Caption("a cat", 32, 32)]).tokens
    ids = torch.tensor([chunk([Weighted("a cat")], tower.tokenize, tower.marks).chunks[0].tokens])
    states = tower.net.encode(tower.net.token_embedding(ids), ids).hidden
    assert torch.equal(found, tower.net.final_norm(states[-2]))
    assert not torch.equal(found, tower.net.final_norm(states[-1]))


def test_a_model_says_what_it_became_and_not_what_its_base_was(tiny_file: Path, photos: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"
    header = safetensors.read_header(tiny_file)
    its = {
        "modelspec.title": "Their Model",
        "modelspec.date": "2022-01-01",
        "modelspec.hash_sha256": "0xab",
        "modelspec.license": "CreativeML",
        "modelspec.architecture": "stable-diffusion-v1/theirs",
        "ss_output_name": "theirs",
        "sd_merge_recipe": "{}",
    }
    safetensors.save(base, safetensors.load(header), {**header.metadata, **its})
    said = taught(
        "dreambooth", teaching.changes("dreambooth", base, photos, run__steps=1, trigger="a zwx"), tmp_path / "run"
    )
    assert (said["modelspec.title"], said["modelspec.trigger_phrase"]) == ("taught", "a zwx")
    assert said["modelspec.date"] > "2026"
    assert (said["modelspec.license"], said["sd_merge_recipe"]) == ("CreativeML", "{}")
    assert said["modelspec.architecture"] == "stable-diffusion-v1/theirs"
    assert said["modelspec.prediction_type"] == "v"
    assert not {"modelspec.hash_sha256", "ss_output_name"} & said.keys()
    assert said["atelier.base_sha256"] == hashlib.sha256(base.read_bytes()).hexdigest()
    assert len(said["atelier.data_sha256"]) == 64


def test_the_hash_of_the_data_is_of_the_data(tiny_file: Path, photos: Path, tmp_path: Path) -> None:
    """Not of the place, the names and the times of the files."""
    there = tmp_path / "there"
    there.mkdir()
    for path in photos.iterdir():
        (there / f"b{path.name}").write_bytes(path.read_bytes())

    def data_of(folder: Path, run: str) -> str:
        told = teaching.changes("lora", tiny_file, folder, run__steps=1)
        return taught("lora", told, tmp_path / run)["atelier.data_sha256"]

    first = data_of(photos, "first")
    assert data_of(there, "second") == first
    next(there.glob("*.txt")).write_text("another caption", encoding="utf-8")
    assert data_of(there, "third") != first
