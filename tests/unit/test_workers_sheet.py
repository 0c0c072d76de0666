"""The kind of job that puts images on a page."""

from __future__ import annotations

import io
from typing import Any, cast

import pytest
from PIL import Image

from atelier.errors import BadInput
from atelier.request.infotext import pixel_hash
from atelier.request.infotext.read import read
from atelier.runtime.jobs.lease import MadeImage
from atelier.runtime.workers.handed import HandedImages
from atelier.runtime.workers.kind import Bench, Most, Task
from atelier.runtime.workers.kinds.sheet import perform, settle
from fakes.service import png

NAMES = [f"upload:{digit * 64}" for digit in "abc"]
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]


@pytest.fixture
def bench() -> Bench:
    images = HandedImages(Most())
    images.hold({name: png(colour=colour, size=(40, 30)) for name, colour in zip(NAMES, COLOURS, strict=True)})
    return Bench(cast("Any", None), images, Most())


def page(bench: Bench, **fields: Any) -> tuple[Image.Image, MadeImage]:
    settled = settle({"images": NAMES, "above": ["", ""], "beside": ["", ""], **fields}, bench)
    assert settled.uploads == tuple(NAMES)
    (made,) = [told for told in perform(Task(settled.resolved or {}), bench) if isinstance(told, MadeImage)]
    return Image.open(io.BytesIO(made.data)), made


def centres(image: Image.Image, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Where a colour is, on average."""
    pixels = image.load()
    assert pixels is not None
    at = [(x, y) for x in range(image.width) for y in range(image.height) if pixels[x, y] == colour]
    return sum(x for x, _ in at) / len(at), sum(y for _, y in at) / len(at)


def test_images_stand_row_by_row(bench: Bench) -> None:
    image, made = page(bench)
    red, green, blue = (centres(image, colour) for colour in COLOURS)
    assert red[1] == green[1] < blue[1]
    assert red[0] == blue[0] < green[0]
    assert (made.width, made.height, made.infotext) == (*image.size, "")


def test_words_take_room_and_the_text_says_the_page(bench: Bench) -> None:
    text = "a cat\nSteps: 2, Sampler: Euler, Seed: 9, Pixel hash: " + "0" * 64 + ", Script: X/Y/Z plot, X Type: Steps"
    image, made = page(bench, above=["Steps: 1", "Steps: 2"], beside=["Euler", ""], title="all", infotext=text)
    assert image.height > page(bench)[0].height
    found = dict(read(made.infotext).pairs)
    assert (found["Script"], found["X Type"], found["Seed"]) == ("X/Y/Z plot", "Steps", "9")
    assert found["Pixel hash"] == pixel_hash(image)
    assert made.seed == 9


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"images": []}, "images"),
        ({"above": [""]}, "at most 2"),
        ({"above": ["x" * 60_000] * 2}, "characters"),
        ({"more": 1}, "more"),
        ({"images": ["/etc/passwd"]}, "no image that was uploaded"),
    ],
)
def test_pages_that_are_none(bench: Bench, fields: dict[str, Any], part: str) -> None:
    with pytest.raises(BadInput if part != "at most 2" else Exception, match=part):
        settle({"images": NAMES, "above": ["", ""], "beside": ["", ""], **fields}, bench)


def test_a_page_has_no_more_pixels_than_an_image(bench: Bench) -> None:
    small = Bench(bench.engine, bench.images, Most(pixels=1000))
    with pytest.raises(Exception, match="at most 1,000 are made"):
        settle({"images": NAMES, "above": ["", ""], "beside": ["", ""]}, small)
