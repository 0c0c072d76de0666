"""Hints at the size of a request: thin lines stay thin, labels stay labels, and the rest is smooth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from annotator_support import drawing, noise, smooth
from atelier.vision.annotate import Ready, annotator, ready
from atelier.vision.annotating import Annotator, Asked
from atelier.vision.arrays.canny import canny
from atelier.vision.arrays.thin import thinned
from atelier.vision.arrays.tones import grey, stretched
from atelier.vision.geometry import Resize
from atelier.vision.hints import fitted, numbers, resized, sized_hint
from atelier.vision.palette import ade20k, in_colours


def lines() -> np.ndarray:
    return grey(canny(drawing(120, 150), 100, 200))


def thickest(mask: np.ndarray) -> int:
    """Pixels of the fullest 2 x 2."""
    return int((mask[:-1, :-1].astype(int) + mask[1:, :-1] + mask[:-1, 1:] + mask[1:, 1:]).max())


def pieces(mask: np.ndarray) -> int:
    """Parts that hang together by any of 8 neighbours, counted by flooding."""
    left, count = {(int(y), int(x)) for y, x in np.argwhere(mask)}, 0
    while left:
        count, front = count + 1, [left.pop()]
        while front:
            y, x = front.pop()
            near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            front += near
    return count


@pytest.mark.parametrize("size", [(300, 240), (201, 177), (100, 80)])
def test_lines_of_one_pixel_stay_so(size: tuple[int, int]) -> None:
    result = resized(lines(), *size)
    assert set(np.unique(result)) == {0, 255}
    mask = result[..., 0] > 0
    assert thickest(mask) <= 3
    scale = size[0] / 150
    assert 0.5 * scale < mask.sum() / (lines()[..., 0] > 0).sum() < 1.6 * scale


def test_areas_of_two_colours_stay_so_and_keep_their_shape() -> None:
    shape = np.zeros((50, 60), np.uint8)
    shape[10:40, 20:50] = 255
    result = resized(grey(shape), 120, 100)
    assert set(np.unique(result)) == {0, 255}
    assert (result[20:80, 40:100] == 255).all()
    assert result[:19].sum() == 0


def test_labels_stay_labels() -> None:
    labels = in_colours((np.arange(36).reshape(6, 6)).astype(np.uint8).repeat(7, 0).repeat(5, 1))
    for size in ((100, 90), (17, 13)):
        found = {tuple(int(n) for n in colour) for colour in resized(labels, *size).reshape(-1, 3)}
        assert found <= set(ade20k().values())


def drawn(name: str, image: np.ndarray) -> Image.Image:
    """The hint at half the size, with nothing said of a resolution."""
    maker = ready(annotator(name), lambda _: None, torch.device("cpu"))
    return sized_hint(maker, Image.fromarray(image), (64, 48), "stretch", 0, {})


def test_what_is_a_map_already_is_not_smoothed_before() -> None:
    """Labels far apart have no others between them; lines that are inverted stay one pixel wide, black and white."""
    labels = np.array([[0, 60, 20], [100, 3, 149], [60, 0, 100]], np.uint8)[:, [0, 1, 2, 0]].repeat(32, 0).repeat(32, 1)
    found = np.asarray(drawn("seg_labels", grey(labels)))
    known = {tuple(map(int, colour)) for colour in in_colours(np.unique(labels)[None])[0]}
    assert {tuple(map(int, colour)) for colour in np.unique(found.reshape(-1, 3), axis=0)} == known
    mask = np.zeros((96, 128), np.uint8)
    mask[20, 10:110] = mask[20:90, 10] = 255
    found = np.asarray(drawn("invert", 255 - grey(mask)))[..., 0]
    assert set(np.unique(found)) == {0, 255}
    assert thickest(found > 0) <= 3


def test_other_maps_are_smooth() -> None:
    soft = smooth(64, 80)
    larger = resized(soft, 160, 128)
    assert abs(np.diff(larger[..., 0].astype(int), axis=1)).mean() < 0.6 * abs(np.diff(soft[..., 0].astype(int))).mean()
    assert resized(soft, 80, 64) is soft


def test_it_fits_as_it_is_told() -> None:
    """Of 100x50, a request of 64x64 sees the middle half, or all of it between bands of the border's median."""
    wide = np.full((50, 100, 3), 200, np.uint8)
    wide[:, :25], wide[20:30, 40:60] = 90, noise(10, 20)
    image = Image.fromarray(wide)
    crop, fill, stretch = (np.asarray(fitted(image, 64, 64, how)) for how in ("crop", "fill", "stretch"))
    assert crop.shape == fill.shape == stretch.shape == (64, 64, 3)
    assert (crop[2, 5:] == 200).all()
    assert (fill[:15] == 200).all()
    assert (fill[49:] == 200).all()
    assert abs(fill[17:47, 2:14].astype(int) - 90).max() <= 1
    assert abs(stretch[2:20, 2:14].astype(int) - 90).max() <= 1
    for how in ("crop", "fill", "stretch"):
        assert fitted(Image.fromarray(noise(1, 90)), 8, 200, how).size == (8, 200)


@pytest.mark.parametrize(("how", "seen"), [("crop", (64, 128)), ("stretch", (64, 128)), ("fill", (32, 64))])
def test_an_annotator_sees_the_whole_image_at_the_scale_of_the_hint(how: Resize, seen: tuple[int, int]) -> None:
    """A1111's "pixel perfect": the short side times the larger factor between image and request, the smaller one for
    fill; then the hint is brought to the size, so that around it is nothing that the annotator drew."""
    sizes: list[tuple[int, int]] = []

    def draw(pixels: np.ndarray, _: Asked) -> np.ndarray:
        sizes.append(pixels.shape[:2])
        framed = np.zeros_like(pixels)
        framed[1:-1, 1:-1] = pixels[1:-1, 1:-1]
        return framed

    maker = Ready(Annotator("framed", "", draw, frame="sized"), draw)
    white = Image.fromarray(np.full((50, 100, 3), 255, np.uint8))
    hint = np.asarray(sized_hint(maker, white, (64, 64), how, 0, {}))
    assert sizes == [seen]
    assert hint.shape == (64, 64, 3)
    assert hint[32, 32].tolist() == [255, 255, 255]
    assert bool(hint[:16].any()) is (how != "fill")


def test_a_strip_is_not_seen_at_millions_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 32 times its size, as its short side asks for, it would have 1,843,200."""
    monkeypatch.setattr("atelier.vision.hints.MOST_PIXELS", 100_000)
    maker = ready(annotator("canny"), lambda _: None, torch.device("cpu"))
    hint, seen = Ready.hint, list[tuple[int, int]]()

    def watched(self: Ready, image: Image.Image, **more: Any) -> Image.Image:
        seen.append(image.size)
        return hint(self, image, **more)

    monkeypatch.setattr(Ready, "hint", watched)
    strip = Image.fromarray(noise(2, 900))
    assert sized_hint(maker, strip, (64, 640), "stretch", 0, {}).size == (64, 640)
    ((width, height),) = seen
    assert 90_000 < width * height < 110_000
    assert abs(max(width, height) / min(width, height) - 450) < 30


def test_numbers_and_what_a_mask_hides() -> None:
    hint = Image.fromarray(np.array([[[0, 51, 255], [255, 255, 255]]], np.uint8))
    assert np.allclose(numbers(hint), [[[0, 0.2, 1], [1, 1, 1]]])
    mask = Image.fromarray(np.array([[0, 200]], np.uint8))
    hidden = numbers(hint, mask)
    assert np.allclose(hidden, [[[0, 0.2, 1], [-1, -1, -1]]])
    assert hidden.dtype == np.float32


def test_thinning_keeps_the_pieces_and_is_done_at_once() -> None:
    thick = smooth(70, 90, seed=2)[..., 0] > 140
    thin = thinned(thick)
    assert pieces(thin) == pieces(thick)
    assert thickest(thin) <= 3
    assert (thinned(thin) == thin).all()
    assert not (thin & ~thick).any()
    assert thinned(np.ones((1, 9), bool)).sum() == 9


def test_a_flat_map_is_far_everywhere() -> None:
    assert (stretched(np.full((3, 4), 7.0)) == 0).all()
