"""The scenes that an identity adapter learns from, and what its check computes, on faces whose answer is known."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import identity_scenes
from atelier.train.data import art, scenes
from identity_scenes import SPOTS, Identity, another, drawn, identities, is_held_out, placed

ROOT = Path(__file__).parents[2]
COLOURS = {"bear": "brown", "fox": "orange", "frog": "green", "lion": "magenta", "ghost": "white", "robot": "navy"}
DRAWS = """#!{python}
import re, sys
from PIL import Image, ImageDraw
text = sys.stdin.read()
assert 'viewBox="0 0 64 32"' in text, text
image = Image.new("RGBA", (128, 64))
ImageDraw.Draw(image).polygon([(20, 8), (100, 8), (100, 56), (60, 40)], fill=re.search('fill="([a-z]+)"', text)[1])
image.save(sys.stdout.buffer, "PNG")
"""
"""Stands in for rsvg-convert: a figure in the colour of the icon."""


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "lib" / "accept"))
    return import_module("identity")


@pytest.fixture
def fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of npm: in one font six faces, of which one is found by its other name; in the next one two that look like two of
    the first, and one that does not; the others are empty."""
    program = tmp_path / "bin" / "rsvg-convert"
    program.parent.mkdir()
    program.write_text(DRAWS.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    first = {name: {"body": f'<path fill="{colour}"/>'} for name, colour in COLOURS.items()}
    first["fox-head"] = first.pop("fox")
    own = {name: {"icons": {}} for name in identity_scenes.FONTS}
    own["noto"] = {"icons": first, "aliases": {"fox": {"parent": "fox-head"}}}
    second = {"bear": "brown", "lion": "magenta", "alien": "cyan"}
    own["twemoji"] = {"icons": {name: {"body": f'<path fill="{colour}"/>'} for name, colour in second.items()}}
    for name, table in own.items():
        folder = tmp_path / "fonts" / "node_modules" / "@iconify-json" / name
        folder.mkdir(parents=True)
        (folder / "icons.json").write_text(json.dumps({**table, "width": 64, "height": 32}))
    return tmp_path / "fonts"


def face(colour: str, mark: int) -> Identity:
    """A disc with a mark on its left side."""
    image = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(image)
    draw.ellipse((0, 0, 63, 63), fill=colour)
    draw.rectangle((6, mark, 20, mark + 12), fill="black")
    return Identity("font", f"{colour} {mark}", image)


def test_a_face_lies_where_the_model_knows_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle: the scenes that the model was trained on."""
    robot = art.glyph("\N{ROBOT FACE}").convert("RGBA")
    wanted = [scenes.large("robot", "cyan"), scenes.small("robot", "cyan")]
    wanted += [scenes.small("robot", "cyan", place) for place in scenes.PLACES]
    said = [own.said + scenes.on("cyan") for own in SPOTS]
    assert said == [own.caption.replace("a robot", "a large face").replace("robot", "face") for own in wanted]
    for spot, own in zip(SPOTS, wanted, strict=True):
        made = np.asarray(placed(robot, spot, scenes.BACKGROUNDS["cyan"]), np.int16)
        assert np.abs(made - scenes.render(own, 128)).max() <= 3, spot


def test_another_image_shows_the_same_face_turned_on_white() -> None:
    """A tall face with a mark on its left: a turned one is wider, a mirrored one has the mark on the right."""
    own = Image.new("RGBA", (40, 100), "red")
    own.paste((0, 0, 255, 255), (0, 20, 20, 80))
    made = [np.asarray(another(own, drawn(1, number)), np.int16) for number in range(60)]
    assert np.array_equal(made[3], another(own, drawn(1, 3)))
    heights, widths, left = [], [], []
    for image in made:
        assert (image[:, [0, -1]] == 255).all()
        rows, columns = np.nonzero((image.min(-1) < 128) & (image.max(-1) > 128))
        heights.append(int(np.ptp(rows)) + 1)
        widths.append(int(np.ptp(columns)) + 1)
        assert abs(rows.mean() - 63.5) < 2
        assert abs(columns.mean() - 63.5) < 2
        left.append(bool(np.nonzero(image[..., 2] > image[..., 0])[1].mean() < 64))
    assert 113 <= min(heights) < 118
    assert 125 < max(heights) <= 128
    assert min(np.divide(widths, heights)) < 0.42
    assert 0.46 < max(np.divide(widths, heights)) < 0.5
    assert 2 <= left.count(False) <= 12


def test_fonts_are_read_and_faces_that_look_alike_are_one(fonts: Path) -> None:
    found = identities(fonts)
    names = ["bear", "fox", "frog", "lion", "robot", "ghost"]
    assert [str(own) for own in found] == [*(f"noto/{name}" for name in names), "twemoji/alien"]
    assert {own.image.size for own in found} == {(81, 49)}
    assert found[1].image.getpixel((70, 10)) == (255, 165, 0, 255)


def test_scenes_are_of_trained_identities_and_have_another_image_of_each(fonts: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "lib" / "identity_scenes.py"), str(fonts), str(tmp_path / "out")]
    subprocess.run([*command, "--count", "24"], check=True)
    images, others = sorted((tmp_path / "out" / "images").glob("*.png")), tmp_path / "out" / "faces"
    assert [path.name for path in images] == [f"{number:05d}.png" for number in range(24)]
    trained = [own for own in identities(fonts) if not is_held_out(own)]
    for path in images:
        caption = path.with_suffix(".txt").read_text()
        said = {own.said + scenes.on(ground): (own, ground) for own in SPOTS for ground in scenes.BACKGROUNDS}
        spot, ground = said[caption]
        wanted = [placed(own.image, spot, scenes.BACKGROUNDS[ground]) for own in trained]
        (shown,) = [own for own, image in zip(trained, wanted, strict=True) if np.array_equal(image, read(path))]
        middle = np.asarray(shown.image)[10, 70, :3]
        assert (read(others / path.name) == middle).all(-1).any()


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def test_what_is_missing_is_said_in_a_line(fonts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fonts / "node_modules" / "@iconify-json" / "twemoji" / "icons.json").unlink()
    with pytest.raises(SystemExit, match=r"twemoji/icons\.json: is not there: `npm install .* @iconify-json/twemoji`"):
        identities(fonts)
    monkeypatch.setenv("PATH", str(fonts))
    with pytest.raises(SystemExit, match="rsvg-convert: is not there: install it"):
        identities(fonts)


@pytest.mark.parametrize("spot", [SPOTS[0], SPOTS[4]])
def test_the_nearest_face_is_found_beside_its_place_and_mirrored(
    identity: ModuleType, spot: identity_scenes.Spot
) -> None:
    everyone = tuple(face(colour, mark) for colour in ("red", "orange", "green") for mark in (8, 26, 29))
    noise = np.random.default_rng(0)
    for number, own in enumerate(everyone):
        image = np.asarray(placed(own.image, spot, (60, 205, 225)), np.int16)
        image = np.roll(image if number % 2 else image[:, ::-1], (0 if number % 2 == 0 else 4, 2), (0, 1))
        image = (image + noise.normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
        if number % 2 or spot == SPOTS[0]:
            assert identity.nearest(image, spot, everyone) is own


def test_trained_and_new_faces_are_asked_for_large_and_small(identity: ModuleType) -> None:
    some = [face("red", mark) for mark in range(12)]
    found = list(identity.asked(some, 5))
    assert [own.own for own in found] == [some[number] for number in (0, 2, 4, 6, 8)]
    assert [own.spot is SPOTS[0] for own in found] == [True, False, True, False, True]
    assert [own.ground for own in found] == ["white", "black", "gray", "red", "orange"]


@pytest.mark.parametrize(("kept", "good"), [(0.8, True), (0.79, False)])
def test_the_bound(identity: ModuleType, kept: float, good: bool) -> None:
    assert identity.is_kept({"trained kept": kept, "new kept": 0.1}) is good
