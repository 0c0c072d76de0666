"""What a teaching leaves: files that say how they came about, and nothing of the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import taught_support as teaching
import training_support as support
from atelier.request.events import Failed
from atelier.train.folder import LATENTS
from atelier.train.runner import run_recipe
from atelier.weights.formats import safetensors

pytestmark = pytest.mark.usefixtures("one_thread")
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
    more: dict[str, Any] = {"run__steps": 2, "data__size": None}
    said = taught("lora", teaching.changes("lora", tiny_file, file, **more), tmp_path / "run")
    kept = list((tmp_path / "run" / LATENTS).glob("*.npz"))
    assert not kept if drawn else kept
    keys = ("flip_aug", "random_crop", "cache_latents", "enable_bucket", "shuffle_caption")
    assert [said[f"ss_{key}"] for key in keys] == ["True", str(drawn), str(not drawn), "True", "True"]
    assert (said["ss_keep_tokens"], said["ss_caption_dropout_rate"]) == ("2", "0.25")


@pytest.mark.parametrize("kind", ["lora", "dreambooth"])
def test_files_to_be_shared_name_no_folders(kind: str, tiny_file: Path, photos: Path, tmp_path: Path) -> None:
    told = teaching.changes(kind, tiny_file, photos, run__steps=2)
    said = taught(kind, told, tmp_path / "run")
    recipe = json.loads(said["atelier.recipe"])
    assert (recipe["base"], recipe["data"]["source"], recipe["data"]["size"]) == (tiny_file.name, "photos", 32)
    assert not [key for key, value in said.items() if str(tmp_path) in value or str(tiny_file.parent) in value]
