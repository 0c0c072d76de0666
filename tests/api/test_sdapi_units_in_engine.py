"""What units of A1111's ControlNet extension do to images of a tiny random model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from atelier.api.sdapi import translate
from atelier.api.sdapi.bodies import Txt2Img
from atelier.api.sdapi.waiting import with_uploads
from atelier.api.service import NamedEntry
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache
from control_support import written
from fakes.a1111 import PICTURE, STEERED

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)
CATALOGUE = replace(STEERED, controls=(NamedEntry("tiny_inpaint", "tiny_inpaint.safetensors", {"kind": "hint"}),))
UNIT: dict[str, Any] = {"enabled": True, "image": PICTURE}
INPAINT = {**UNIT, "module": "inpaint_only", "model": "tiny_inpaint", "mask": PICTURE}


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "ControlNet").mkdir()
    (folder / "tiny").symlink_to(tiny_folder)
    written(folder / "ControlNet" / "tiny_inpaint.safetensors", tiny_folder, zero=False)
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (64, 64, 3), np.uint8)).save(folder / "photo.png")
    half = np.zeros((64, 64), np.uint8)
    half[:, :32] = 255
    Image.fromarray(half).save(folder / "left.png")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine(CPU, Library((folder,)), HashCache(), version="1", budget=2**30)


def made(engine: Engine, folder: Path, *units: Mapping[str, Any]) -> NDArray[np.float64]:
    """As the server does it, with files in place of uploads."""
    body = {
        "prompt": "a cat", "steps": 2, "sampler_name": "Euler", "width": 64, "height": 64, "seed": 7,
        "alwayson_scripts": {"ControlNet": {"args": list(units)}},
    }  # fmt: skip
    asked = translate.txt2img(Txt2Img.model_validate(body), CATALOGUE, {})
    files = {name: str(folder / ("left.png" if "mask" in name else "photo.png")) for name in asked.images}
    fields = with_uploads(asked.runs.fields[0], files) | {"model": "tiny", "mask_blur": 0.0}
    if "mask" in fields:
        fields["mask"] = str(folder / "left.png")
    else:
        del fields["mask_blur"]
    request = request_of({name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
    (image,) = engine.generate(request)
    return np.asarray(image.image).astype(float)


def test_inpainting_keeps_what_the_mask_does_not_show(engine: Engine, folder: Path) -> None:
    photo = np.asarray(Image.open(folder / "photo.png")).astype(float)
    filled = made(engine, folder, INPAINT)
    assert (filled[:, 40:] == photo[:, 40:]).all()
    assert abs(filled[:, :32] - photo[:, :32]).mean() > 10
    weak = made(engine, folder, {**INPAINT, "weight": 0})
    assert (weak[:, 40:] == photo[:, 40:]).all()
    assert abs(weak[:, :32] - filled[:, :32]).max() > 1, "the network acts"


def test_the_hint_lacks_what_the_mask_shows(engine: Engine, folder: Path) -> None:
    """What lies under the mask changes nothing: the request starts from noise there, and the network sees a hole."""
    filled = made(engine, folder, INPAINT)
    photo = Image.open(folder / "photo.png")
    photo.paste((250, 10, 10), (0, 0, 24, 64))
    try:
        original = (folder / "photo.png").read_bytes()
        photo.save(folder / "photo.png")
        assert abs(made(engine, folder, INPAINT)[:, :24] - filled[:, :24]).max() <= 4  # neighbours' latents move a bit
    finally:
        (folder / "photo.png").write_bytes(original)


def test_reference_only_changes_an_image(engine: Engine, folder: Path) -> None:
    plain, unit = made(engine, folder), {**UNIT, "module": "reference_only"}
    assert (made(engine, folder, {**unit, "weight": 0}) == plain).all()
    shown = made(engine, folder, unit)
    assert abs(shown - plain).max() > 0
    assert abs(made(engine, folder, {**unit, "control_mode": 2}) - shown).max() > 0
