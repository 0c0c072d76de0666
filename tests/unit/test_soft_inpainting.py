"""Soft inpainting: how a grey mask opens, how old and new are blended, and where the result is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.diffusion.combine.masked import masked
from atelier.diffusion.combine.soft import Softness, softly
from atelier.diffusion.types import Moment, Prediction
from atelier.pipeline.finishes import OnSource, WhatChanged
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.starts import InMask
from atelier.pipeline.values import KNOWN, PREPARED
from atelier.request.infotext import read, to_request
from atelier.request.table import flat
from atelier.runtime.engine import Engine
from atelier.vision.difference import Sensitivity, changed
from pipeline_support import PLENTY, engine_on, planned, request

USUAL = Sensitivity(influence=0.0, threshold=0.5, contrast=2.0, strength=0.5)
NOW = Moment(0, 0)


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=PLENTY)


@pytest.mark.parametrize(
    ("bias", "strength", "sigma", "expected"),
    [
        (1.0, 0.5, 4.0, 0.0625),
        (1.0, 0.5, 1.0, 0.5),
        (1.0, 0.5, 0.0, 1.0),
        (2.0, 0.5, 2.0, 0.0625),
        (1.0, 2.0, 1.0, 0.0625),
    ],
)
def test_a_quarter_opens_as_the_noise_goes(bias: float, strength: float, sigma: float, expected: float) -> None:
    mask = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    now = Softness(bias, strength).mask_at(mask, torch.tensor(sigma))
    assert now.flatten().tolist() == pytest.approx([0.0, expected, 1.0])


def test_each_image_has_its_own_level() -> None:
    now = Softness().mask_at(torch.full((1, 1, 1, 1), 0.25), torch.tensor([4.0, 1.0]))
    assert now.flatten().tolist() == pytest.approx([0.0625, 0.5])


def test_what_is_blended_keeps_its_length() -> None:
    """(3, 4) and (0, 10): half of each is (1.5, 7), of length 7.159; ((5^4 + 10^4) / 2)^(1/4) = 8.5374 is wanted."""
    known, made = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1), torch.tensor([0.0, 10.0]).reshape(1, 2, 1, 1)
    half = torch.full((1, 1, 1, 1), 0.5)
    assert Softness().blended(known, made, half).flatten().tolist() == pytest.approx([1.7888, 8.3477], abs=2e-3)
    even = Softness(contrast=1.0).blended(known, made, half)
    assert float(even.norm()) == pytest.approx(7.5, abs=1e-3)


def test_without_grey_it_is_inpainting_as_ever() -> None:
    draw = torch.Generator().manual_seed(1)
    known, x = torch.randn(1, 4, 3, 3, generator=draw), torch.randn(2, 4, 3, 3, generator=draw)
    mask = (torch.rand(1, 1, 3, 3, generator=draw) > 0.5).float()

    def made(x: torch.Tensor, *_: object) -> Prediction:
        return Prediction(x * 2, x * 3)

    soft = softly(known, mask, Softness())(made)(x, torch.tensor(3.0), NOW)
    hard = masked(known, mask)(made)(x, torch.tensor(3.0), NOW)
    assert soft.unguided is not None
    assert hard.unguided is not None
    assert torch.equal(soft.clean, hard.clean)
    assert torch.equal(soft.unguided, hard.unguided)


def seen(before: np.ndarray, after: np.ndarray, mask: np.ndarray, wanted: Sensitivity = USUAL) -> np.ndarray:
    return np.asarray(changed(before, after, mask, wanted, (96, 96)))


def test_the_result_is_seen_where_it_changed() -> None:
    before, mask = np.zeros((4, 12, 12)), np.full((12, 12), 0.5)
    assert seen(before, before, mask).max() == 0
    after = before.copy()
    after[:, :, 6:] = 4.0
    found = seen(before, after, mask)
    assert found[:, :8].max() == 0
    assert found[:, 80:].min() >= 254


def test_the_threshold_is_the_difference_that_is_half_seen() -> None:
    """A difference of 0.5 everywhere; the length of a vector with one channel of 0.5."""
    before, mask = np.zeros((4, 12, 12)), np.full((12, 12), 0.5)
    after = before.copy()
    after[2] = 0.5
    assert set(np.unique(seen(before, after, mask))) <= {127, 128}
    double = Sensitivity(influence=0.0, threshold=1.0, contrast=2.0, strength=0.5)
    # 1 / (1 + 1/4) = 0.8, whose smoother step is 0.94208
    assert np.abs(seen(before, after, mask, double).astype(int) - 15).max() <= 1


def test_the_mask_decides_where_it_is_asked_to() -> None:
    """Where the mask is 1 every difference is seen, where it is 0 none."""
    before, mask = np.zeros((4, 12, 12)), np.zeros((12, 12))
    mask[:, 6:] = 1
    found = seen(before, before + 0.2, mask, Sensitivity(influence=1.0, threshold=0.5, contrast=2.0, strength=0.5))
    assert found[:, :20].max() == 0
    assert found[:, 76:].min() >= 254


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An image of smooth colours, and a mask of four stripes from black to white."""
    folder = tmp_path_factory.mktemp("images")
    rows, columns = np.mgrid[0:64, 0:64] / 64
    Image.fromarray((np.stack([rows, columns, rows * columns], -1) * 255).astype(np.uint8)).save(folder / "image.png")
    mask = np.repeat(np.array([0, 100, 180, 255], np.uint8), 16)
    Image.fromarray(np.tile(mask, (64, 1))).save(folder / "mask.png")
    return {"image": str(folder / "image.png"), "mask": str(folder / "mask.png")}


def test_the_greyer_the_less_is_made_anew(engine: Engine, steps: dict[str, str]) -> None:
    fields = {**steps, "mask_blur": 0.0, "denoising_strength": 1.0, "sampler": "Euler", "soft_inpainting": True}
    made = engine.generate(request(**fields, steps=6))[0]
    with Image.open(steps["image"]) as before:
        moved = np.abs(np.asarray(made.image).astype(int) - np.asarray(before.convert("RGB")).astype(int))
    black, dark, light, white = (float(moved[:, x : x + 12].mean()) for x in (0, 18, 34, 50))
    assert black == 0
    assert black <= dark < light < white
    hard = engine.generate(request(**{**fields, "soft_inpainting": False}, steps=6))[0]
    assert hard.image.tobytes() != made.image.tobytes()


def test_every_setting_gets_where_it_acts(engine: Engine, steps: dict[str, str]) -> None:
    """Numbers of their own: how the mask opens while sampling, and where the finished image is seen."""
    own = {
        "schedule_bias": 1.5,
        "preservation_strength": 0.75,
        "transition_contrast_boost": 3.0,
        "mask_influence": 0.25,
        "difference_threshold": 0.625,
        "difference_contrast": 5.0,
    }
    fields = {f"soft_inpainting_{name}": value for name, value in own.items()}
    stages = planned(engine, **steps, soft_inpainting=True, **fields)
    (diffuse,) = (stage for stage in stages if isinstance(stage, Diffuse))
    (decode,) = (stage for stage in stages if isinstance(stage, Decode))
    assert diffuse.combine == (InMask(KNOWN, Softness(bias=1.5, strength=0.75, contrast=3.0)),)
    seen = Sensitivity(influence=0.25, threshold=0.625, contrast=5.0, strength=0.75)
    assert decode.finish == OnSource(PREPARED, recolour=False, seen=WhatChanged(KNOWN, seen))


def test_the_infotext_says_it_and_makes_it_again(engine: Engine, steps: dict[str, str]) -> None:
    fields = {**steps, "soft_inpainting": True, "soft_inpainting_schedule_bias": 1.5}
    made = engine.generate(request(**fields))[0]
    assert (
        "Soft inpainting enabled: True, Soft inpainting schedule bias: 1.5, "
        "Soft inpainting preservation strength: 0.5, Soft inpainting transition contrast boost: 4.0, "
        "Soft inpainting mask influence: 0.0, Soft inpainting difference threshold: 0.5, "
        "Soft inpainting difference contrast: 2.0"
    ) in made.infotext
    again = to_request(read(made.infotext), {**steps, "model": "tiny"})
    assert flat(again)["soft_inpainting_schedule_bias"] == 1.5
    assert engine.generate(again)[0].image.tobytes() == made.image.tobytes()


def test_a_drawing_keeps_its_half_transparency(engine: Engine, steps: dict[str, str], tmp_path: Path) -> None:
    """Alpha 100 is nothing of a mask that is 0 or 1, and some of a soft one."""
    drawing = Image.new("RGBA", (64, 64), (255, 0, 0, 100))
    drawing.paste((255, 0, 0, 255), (48, 0, 64, 64))
    drawing.save(tmp_path / "drawing.png")
    fields = {"image": steps["image"], "mask": str(tmp_path / "drawing.png"), "mask_blur": 0.0, "steps": 6}
    with Image.open(steps["image"]) as before:
        original = np.asarray(before.convert("RGB"))[:, :40]
    hard, soft = (
        np.asarray(engine.generate(request(**fields, denoising_strength=1.0, soft_inpainting=how))[0].image)[:, :40]
        for how in (False, True)
    )
    assert np.array_equal(hard, original)
    assert not np.array_equal(soft, original)
