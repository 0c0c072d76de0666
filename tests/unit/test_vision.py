"""Geometry, masks and colours of images, against literals of A1111's rules and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from atelier.vision import masks
from atelier.vision.colour import corrected, lab, rgb
from atelier.vision.geometry import Resize, resized
from atelier.vision.masks import Box
from effort import little_work


def striped(width: int, height: int) -> Image.Image:
    """Every column red by its number, every row green by its own."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8))


def mask(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    made = Image.new("L", (width, height))
    made.paste(255, box)
    return made


def test_stretched() -> None:
    assert np.array_equal(
        np.asarray(resized(striped(40, 20), 30, 30, "stretch")),
        np.asarray(striped(40, 20).resize((30, 30), Image.Resampling.LANCZOS)),
    )


@pytest.mark.parametrize("how", ["stretch", "crop", "fill"])
def test_an_image_of_the_size_is_not_touched(how: Resize) -> None:
    image = striped(24, 16)
    assert resized(image, 24, 16, how) is image


def test_cropped_to_what_covers() -> None:
    """100x50 to 40x40: 80x40, of which columns 20 to 60 remain."""
    whole = striped(100, 50).resize((80, 40), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(resized(striped(100, 50), 40, 40, "crop")), np.asarray(whole)[:, 20:60])
    tall = striped(50, 100).resize((40, 80), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(resized(striped(50, 100), 40, 40, "crop")), np.asarray(tall)[20:60])


def test_filled_with_the_outermost_rows_and_columns() -> None:
    """100x50 to 40x40: 40x20 with ten rows above and below."""
    inner = np.asarray(striped(100, 50).resize((40, 20), Image.Resampling.LANCZOS))
    found = np.asarray(resized(striped(100, 50), 40, 40, "fill"))
    assert np.array_equal(found[10:30], inner)
    assert np.array_equal(found[:10], np.repeat(inner[:1], 10, 0))
    assert np.array_equal(found[30:], np.repeat(inner[-1:], 10, 0))
    inner = np.asarray(striped(50, 100).resize((20, 40), Image.Resampling.LANCZOS))
    found = np.asarray(resized(striped(50, 100), 40, 40, "fill"))
    assert np.array_equal(found[:, 10:30], inner)
    assert np.array_equal(found[:, :10], np.repeat(inner[:, :1], 10, 1))
    assert np.array_equal(found[:, 30:], np.repeat(inner[:, -1:], 10, 1))


def test_a_mask_is_what_is_painted_or_how_bright_it_is() -> None:
    drawing = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((128, 129, 0)):
        drawing.putpixel((x, 0), (9, 9, 9, alpha))
    assert np.asarray(masks.mask_of(drawing)).ravel().tolist() == [0, 255, 0]
    opaque = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    opaque.putpixel((0, 0), (0, 0, 0, 255))
    assert np.asarray(masks.mask_of(opaque)).ravel().tolist() == [0, 255]
    assert np.asarray(masks.transparent_in(drawing)).ravel().tolist() == [127, 126, 255]
    assert np.asarray(masks.transparent_in(Image.new("RGB", (1, 1)))).ravel().tolist() == [0]


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_a_blurred_edge_is_a_gaussian_cut_off(sigma: float) -> None:
    """Kernel of 2 int(2.5 sigma + .5) + 1 places: the edge of a half-plane is its running sum."""
    reach = int(2.5 * sigma + 0.5)
    kernel = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)]
    row = np.asarray(masks.blurred(mask(80, 60, (40, 0, 80, 60)), sigma))[30].astype(int)
    for x in range(25, 56):
        inside = sum(k for i, k in zip(range(-reach, reach + 1), kernel, strict=True) if x + i >= 40)
        assert abs(row[x] - 255 * inside / sum(kernel)) <= 1, x
    assert row[40 - reach - 1] == 0
    assert row[40 + reach] == 255
    upright = np.asarray(masks.blurred(mask(60, 80, (0, 40, 60, 80)), sigma))[:, 30]
    assert np.array_equal(upright, row)


def test_no_blur_is_no_change() -> None:
    own = mask(9, 9, (2, 2, 4, 4))
    assert masks.blurred(own, 0) is own


def test_the_widest_blur_of_a_large_mask_takes_little_work() -> None:
    with little_work():
        found = np.asarray(masks.blurred(mask(2400, 2000, (1200, 0, 2400, 2000)), 256.0))
    assert (found[:, 559] == 0).all()
    assert (found[:, 1840] == 255).all()
    assert (np.diff(found[1000].astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("box", "padding", "size", "expected"),
    [
        ((20, 20, 40, 40), 0, (64, 64), (20, 20, 40, 40)),
        ((20, 20, 40, 40), 8, (64, 64), (12, 12, 48, 48)),
        ((20, 20, 60, 40), 0, (64, 64), (20, 10, 60, 50)),
        ((20, 20, 41, 40), 0, (64, 64), (20, 20, 41, 41)),  # one row more: none before, one behind
        ((20, 20, 40, 60), 0, (64, 64), (10, 20, 50, 60)),
        ((20, 20, 40, 40), 0, (128, 64), (10, 20, 50, 40)),
        ((0, 40, 20, 60), 4, (128, 64), (0, 36, 56, 64)),  # moved inside at the left, cut at the bottom before
        ((80, 0, 100, 90), 0, (64, 64), (10, 0, 100, 90)),  # moved inside at the right
        ((0, 30, 100, 40), 0, (64, 64), (0, 0, 100, 100)),  # as far as the image reaches
        ((0, 0, 100, 100), 32, (64, 128), (0, 0, 100, 100)),
    ],
)
def test_what_is_looked_at_where_only_the_mask_is_made_anew(
    box: tuple[int, int, int, int], padding: int, size: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    height = 64 if box == (0, 40, 20, 60) else 100
    assert masks.crop_box(mask(100, height, box), padding, *size) == Box(*expected)


def test_an_empty_mask_has_no_box() -> None:
    assert masks.crop_box(Image.new("L", (9, 9)), 32, 64, 64) is None
    assert masks.is_empty(Image.new("L", (9, 9)))
    assert not masks.is_empty(mask(9, 9, (8, 8, 9, 9)))


def test_what_surrounds_the_mask_flows_into_it() -> None:
    image = Image.new("RGB", (64, 64), (200, 30, 60))
    own = mask(64, 64, (20, 20, 44, 44))
    image.paste((0, 255, 0), (20, 20, 44, 44))
    found = np.asarray(masks.filled(image, own)).astype(int)
    assert np.abs(found - [200, 30, 60]).max() <= 6
    two = Image.new("RGB", (64, 64), "red")
    two.paste("blue", (32, 0, 64, 64))
    left, right = (np.asarray(masks.filled(two, own))[32, x] for x in (22, 42))
    assert left[0] > left[2]
    assert right[2] > right[0]


def test_where_the_mask_is_nothing_every_pixel_is_the_original() -> None:
    original, made = striped(32, 32), Image.new("RGB", (32, 32), "white")
    soft = masks.blurred(mask(32, 32, (8, 8, 20, 20)), 2)
    overlay = masks.overlay_mask(soft)
    assert np.array_equal(np.asarray(overlay), np.minimum(np.asarray(soft).astype(int) * 2, 255))
    found = np.asarray(masks.laid_over(original, made, overlay))
    kept = np.asarray(soft) == 0
    assert np.array_equal(found[kept], np.asarray(original)[kept])
    assert (found[np.asarray(soft) >= 128] == 255).all()


def test_lab_of_known_colours() -> None:
    """CIE L*a*b* (D65) of the sRGB primaries, as colour tables print them."""
    known = {
        (1, 1, 1): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (1, 0, 0): (53.24, 80.09, 67.20),
        (0, 1, 0): (87.73, -86.18, 83.18),
        (0, 0, 1): (32.30, 79.19, -107.86),
    }
    for colour, expected in known.items():
        assert np.allclose(lab(np.array(colour, float)), expected, atol=0.02), colour
    values = np.random.default_rng(0).random((50, 3))
    assert np.allclose(rgb(lab(values)), values, atol=1e-9)


def test_corrected_colours_are_those_of_the_other_image() -> None:
    draw = np.random.default_rng(1)
    image = Image.fromarray(draw.integers(90, 160, (24, 24, 3)).astype(np.uint8))
    like = Image.fromarray((draw.integers(90, 160, (24, 24, 3)) * [1.0, 0.7, 0.4]).astype(np.uint8))
    found = corrected(image, like)
    chroma = [lab(np.asarray(x) / 255)[..., 1:].mean((0, 1)) for x in (found, like, image)]
    assert np.abs(chroma[0] - chroma[1]).max() < 0.35 * np.abs(chroma[2] - chroma[1]).max()
    weights = [0.3, 0.59, 0.11]
    light = [np.asarray(x) @ weights for x in (found, image)]
    assert np.abs(light[0] - light[1]).max() < 1.5
    assert np.abs(np.asarray(corrected(image, image)).astype(int) - np.asarray(image)).max() <= 1
