"""Growing the canvas: which margins, in which passes, and that the image in them stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier.errors import BadInput
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.request import events
from atelier.request.infotext import read, to_request
from atelier.request.outpaint import Margins, margins, passes
from atelier.runtime.engine import Engine
from atelier.vision.canvas import grown, joined, margin
from atelier.vision.masks import Box
from pipeline_support import PLENTY, engine_on, happened, planned, request


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=PLENTY)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("images") / "source.png"
    pixels = np.random.default_rng(1).integers(0, 256, (48, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("left=64", (64, 64), (64, 0, 0, 0)),
        (" left = 64, bottom=8", (64, 64), (64, 0, 0, 8)),
        ("left=1", (64, 64), (8, 0, 0, 0)),
        ("left=1,right=1", (64, 64), (4, 4, 0, 0)),
        ("left=8,right=9", (64, 64), (11, 13, 0, 0)),
        ("top=8", (60, 64), (0, 4, 8, 0)),
        ("128x96", (64, 64), (32, 32, 16, 16)),
        ("65x64", (64, 64), (0, 8, 0, 0)),
    ],
)
def test_what_lacks_to_multiples_of_8_is_shared_out(
    text: str, size: tuple[int, int], expected: tuple[int, ...]
) -> None:
    found = margins(text, size, 8)
    assert tuple(found) == expected
    assert all(side % 8 == 0 for side in found.around(size))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("left", "'left' is no side"),
        ("above=8", "'above=8' is no side"),
        ("left=8,left=8", "'left=8' is no side, or there twice"),
        ("left=-8", "'left=-8' is no side"),
        ("left=0", "the canvas does not grow"),
        ("64x64", "the canvas does not grow"),
        ("32x640", "the image has 64x64, and the frame must hold it"),
        ("left=5000", "the canvas would be 5064x64; a side has at most 4096"),
    ],
)
def test_bad_margins_are_one_line(text: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        margins(text, (64, 64), 8)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        ((64, 64), Margins(left=64, top=32), [(64, 0, 32, 0)]),
        ((64, 64), Margins(right=448), [(0, 64, 0, 0), (0, 128, 0, 0), (0, 256, 0, 0)]),
        ((100, 64), Margins(left=412), [(92, 0, 0, 0), (192, 0, 0, 0), (128, 0, 0, 0)]),
    ],
)
def test_a_pass_adds_no_more_than_there_is(
    size: tuple[int, int], wanted: Margins, expected: list[tuple[int, ...]]
) -> None:
    assert [tuple(added) for added in passes(size, wanted, 64)] == expected


def test_the_margin_begins_as_the_edge_goes_on() -> None:
    image = Image.new("RGB", (32, 32), (200, 0, 0))
    image.paste((0, 0, 200), (16, 0, 32, 32))
    box = Box(32, 0, 64, 32)
    canvas = np.asarray(grown(image, (96, 32), box)).astype(int)
    assert np.array_equal(canvas[:, 32:64], np.asarray(image))
    assert np.abs(canvas[:, 31] - (200, 0, 0)).mean() < 12
    assert np.abs(canvas[:, 64] - (0, 0, 200)).mean() < 12
    assert canvas[:, :8].std(axis=(0, 1)).mean() > 2, "noise where the image is far"
    assert np.asarray(margin((96, 32), box))[0, [31, 32, 63, 64]].tolist() == [255, 0, 0, 255]


def test_the_result_meets_the_edge_and_keeps_away_from_it() -> None:
    """Decoded 20 too dark everywhere: right at the edge, 20 too dark from 16 pixels on."""
    original, made = Image.new("RGB", (64, 16), (120, 120, 120)), Image.new("RGB", (64, 16), (100, 100, 100))
    row = np.asarray(joined(original, made, Box(0, 0, 16, 16)))[8, :, 0].astype(int)
    assert set(row[:16]) == {120}
    assert row[16] in (117, 118)
    assert row[23] == 105
    assert set(row[31:]) == {100}
    assert (np.diff(row[15:32]) <= 0).all()


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_the_image_stays_to_the_pixel(engine: Engine, source: str, strength: float) -> None:
    asked = request(image=source, outpaint="left=20,right=16,bottom=16", denoising_strength=strength)
    made = engine.generate(asked)[0]
    assert made.image.size == (96, 64)
    with Image.open(source) as before:
        assert np.array_equal(np.asarray(made.image)[:48, 20:80], np.asarray(before))
    other = engine.generate(asked.model_copy(update={"seed": 8}))[0]
    assert np.abs(np.asarray(made.image).astype(int) - np.asarray(other.image)).mean() > 2
    assert 'Outpaint: "left=20,right=16,bottom=16"' in made.infotext
    again = to_request(read(made.infotext), {"image": source, "model": "tiny"})
    assert engine.generate(again)[0].image.tobytes() == made.image.tobytes()


def test_large_margins_are_made_in_passes(engine: Engine, source: str) -> None:
    fields = {"image": source, "outpaint": "left=132", "batch_size": 2, "steps": 2}
    stages = planned(engine, max_batch=2, **fields)
    sizes = [(*stage.size, len(stage.samples)) for stage in stages if isinstance(stage, Diffuse)]
    assert sizes == [(64, 48, 1), (128, 48, 1), (192, 48, 1)] * 2
    told = happened(stages, engine.resources)
    ready = [event for event in told if isinstance(event, events.ImageReady)]
    assert [event.index for event in ready] == [0, 1]
    assert all(event.image.size == (192, 48) for event in ready)
    with Image.open(source) as before:
        assert all(np.array_equal(np.asarray(event.image)[:, 132:], np.asarray(before)) for event in ready)
    assert ready[0].image.tobytes() != ready[1].image.tobytes()
    alone = engine.generate(request(**{**fields, "batch_size": 1, "seed": 8}))
    assert alone[0].image.tobytes() == ready[1].image.tobytes()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"width": 512}, "outpaint gives 128x48, and 512x48 is asked for"),
        ({"mask": "alpha"}, "outpaint and mask cannot both be given"),
    ],
)
def test_bad_input(engine: Engine, source: str, fields: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        engine.generate(request(image=source, outpaint="left=68", **fields))
