"""What the check of a taught style computes, on renderings whose style and thing are known."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from atelier.train.data.scenes import BACKGROUNDS, Concept, concepts

CHECKS = Path(__file__).parents[2] / "scripts" / "lib" / "accept"


@pytest.fixture
def style(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CHECKS))
    return import_module("style")


FILLS = ((200, 120, 40, 255), (90, 60, 160, 255))


def sprite(corners: int, *, outlined: bool, fill: tuple[int, int, int, int] | None = FILLS[0]) -> Image.Image:
    """A regular polygon, filled or as a line."""
    image = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    fill = None if outlined else fill
    ImageDraw.Draw(image).regular_polygon((40, 40, 38), corners, fill=fill, outline=(20, 20, 20, 255), width=4)
    return image.convert("RGBa")


THINGS = [Concept(f"{corners} corners", "?", "shapes", "a") for corners in range(3, 9)]


def test_styles_are_told_apart_on_things_that_were_not_seen(style: ModuleType) -> None:
    fonts = [[sprite(n, outlined=False, fill=fill) for n in (3, 4, 6, 7)] for fill in FILLS]
    classifier = style.trained(fonts)
    for font, fill in enumerate(FILLS):
        unseen = style.renderings([sprite(n, outlined=False, fill=fill) for n in (5, 8)])
        assert style.said_new(classifier, unseen) == font


def test_colours_are_those_of_the_thing(style: ModuleType) -> None:
    """Of a rectangle on blue: half a level of red above the third, all of the topmost green."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:] = (0, 0, 255)
    image[6:58, 19:45] = (round(255 * 3.5 / 7), 255, 0)
    (found,) = style.colours(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    for place in ((3, 7, 0), (4, 7, 0)):
        assert float(found[place[0] * 64 + place[1] * 8 + place[2]]) == pytest.approx(0.5**0.5, abs=0.02)
    assert float(found.square().sum()) == pytest.approx(1, abs=0.01)


def test_the_right_thing_is_the_nearest_in_either_style_and_at_a_small_shift(style: ModuleType) -> None:
    drawn = {
        (thing.name, outlined): sprite(n, outlined=outlined)
        for n, thing in enumerate(THINGS, start=3)
        for outlined in (False, True)
    }
    references = [(name, own) for (name, _), own in drawn.items()]
    colours = list(BACKGROUNDS.values())
    for outlined in (False, True):
        images = [
            style.pasted(drawn[thing.name, outlined], colours[-n - 1], 128, 104, (n % 3, 2 - n % 5))
            for n, thing in enumerate(THINGS)
        ]
        assert style.right_things(images, THINGS, references) == 1
        assert style.right_things(images[::-1], THINGS, references) == 0


def test_a_folder_is_read_by_code_points_and_no_thing_is_both_asked_for_and_shown(
    style: ModuleType, tmp_path: Path
) -> None:
    shown = concepts()[:60]
    for number, concept in enumerate(shown):
        ending = "-fe0f" if number % 2 else ""
        sprite(5, outlined=False).convert("RGBA").save(tmp_path / f"{ord(concept.emoji[0]):x}{ending}.png")
    found, sprites = style.known_in(tmp_path)
    assert [concept.name for concept in found] == [concept.name for concept in shown]
    assert {own.mode for own in sprites.values()} == {"RGBa"}
    asked, others = style.divided(found, 20)
    assert len(asked) == 20
    assert not set(asked) & set(others)
    with pytest.raises(SystemExit, match=r"shows 0 of the things"):
        style.known_in(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("change", "good"),
    [({}, True), ({"style": 0.89}, False), ({"right thing": 0.84}, False), ({"classifier": 0.8}, False)],
)
def test_the_bounds(style: ModuleType, change: dict[str, float], good: bool) -> None:
    found = {"style": 0.9, "style, base": 0.0, "right thing": 0.85, "right thing, base": 0.95, "classifier": 0.95}
    assert style.is_good({**found, **change}) is good


def test_what_is_pasted_stands_in_the_middle(style: ModuleType) -> None:
    whole = Image.new("RGBA", (10, 10), (255, 0, 0, 255)).convert("RGBa")
    image = style.pasted(whole, (0, 0, 255), 64, 20, (0, 0))
    rows, columns = np.nonzero(image[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (22, 41, 22, 41)


def test_training_images_are_on_the_models_lattice_and_captioned_without_a_word(
    style: ModuleType, tmp_path: Path
) -> None:
    things = [own for own in concepts() if own.name in ("lemon", "spider")]
    red = Image.new("RGBA", (10, 6), (255, 0, 0, 255)).convert("RGBa")
    style.training_images(tmp_path, things, {own.name: red for own in things})
    captions = [path.read_text() for path in sorted(tmp_path.glob("*.txt"))]
    named = [own.name for own in things for _ in range(4)]
    assert [f"{name} on a" in caption for name, caption in zip(named, captions, strict=True)] == [True] * 8
    assert ["small" in caption for caption in captions] == [False, False, False, True] * 2
    assert all(caption.endswith(" background") for caption in captions)
    assert len(set(captions)) == 8
    boxes: list[tuple[int, int, int, int]] = []
    for number in (0, 3):
        image = np.asarray(Image.open(tmp_path / f"000-{number}.png")).astype(int)
        rows, columns = np.nonzero(np.abs(image - image[0, 0]).max(2) > 8)
        boxes.append((rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
    assert boxes == [(32, 92, 16, 116), (48, 84, 32, 92)]
