"""Edges, filters, resizing and shapes against OpenCV."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from annotator_support import IMAGES, blocks
from atelier.vision.annotate import at_resolution
from atelier.vision.arrays import canny, filters, resample, shapes, thin
from atelier.vision.arrays.shapes import Point

cv2: Any = pytest.importorskip("cv2")

THRESHOLDS = [(100, 200), (10, 30), (200, 100), (0, 0), (50.7, 255), (1, 1), (256, 256)]
WAYS = {"nearest": "INTER_NEAREST", "linear": "INTER_LINEAR", "cubic": "INTER_CUBIC", "lanczos": "INTER_LANCZOS4"}
SIZES = [(64, 40), (33, 57), (300, 211), (128, 128), (1, 1)]


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("low_high", THRESHOLDS, ids=str)
def test_canny_is_opencvs_bit_for_bit(name: str, low_high: tuple[float, float]) -> None:
    assert (canny.canny(IMAGES[name], *low_high) == cv2.Canny(IMAGES[name], *low_high)).all()


@pytest.mark.parametrize("seed", range(12))
def test_canny_on_random_images(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width, side = (int(n) for n in random.integers((1, 1, 1), (70, 70, 9)))
    image = filters.gaussian_bytes(blocks(height, width, seed, side), float(random.uniform(0.3, 3)))
    low, high = (float(n) for n in random.uniform(0, 255, 2))
    ours, theirs = canny.canny(image, low, high), cv2.Canny(image, low, high)
    assert (ours == theirs).all()


def test_the_images_have_edges() -> None:
    assert all(canny.canny(IMAGES[name], 100, 200).any() for name in ("noise", "squares", "banana", "drawing"))


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("sigma", [0.3, 0.5, 1, 3, 6, 9, 40.5])
def test_gaussian_of_bytes_and_of_floats(name: str, sigma: float) -> None:
    image = IMAGES[name]
    assert (filters.gaussian_bytes(image, sigma) == cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)).all()
    theirs = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma).reshape(image.shape)
    assert abs(filters.gaussian(image.astype(float), sigma) - theirs).max() < 1e-3


@pytest.mark.parametrize("name", ["noise", "clouds", "one pixel", "one row"])
def test_sobel(name: str) -> None:
    values = IMAGES[name][..., 0].astype(float)
    across, down = filters.sobel(values)
    assert (across == cv2.Sobel(values, cv2.CV_64F, 1, 0, ksize=3)).all()
    assert (down == cv2.Sobel(values, cv2.CV_64F, 0, 1, ksize=3)).all()


@pytest.mark.parametrize("name", ["noise", "clouds", "one pixel"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("how", WAYS)
def test_resizing_is_within_one(how: Any, size: tuple[int, int], name: str) -> None:
    ours = resample.resize(IMAGES[name], *size, how)
    theirs = cv2.resize(IMAGES[name], size, interpolation=getattr(cv2, WAYS[how]))
    assert abs(ours.astype(int) - theirs).max() <= (0 if how == "nearest" else 1)


@pytest.mark.parametrize("size", [(64, 40), (33, 57), (131, 97), (130, 96), (1, 1), (131, 5)], ids=str)
def test_smaller_by_area(size: tuple[int, int]) -> None:
    ours = resample.resize(IMAGES["noise"], *size, "area")
    assert abs(ours.astype(int) - cv2.resize(IMAGES["noise"], size, interpolation=cv2.INTER_AREA)).max() <= 1


def test_a_resolution_is_reached_as_in_a1111() -> None:
    """Bicubic to what is larger, by area to what is smaller."""
    for image, size, way in (
        (blocks(40, 60), (108, 72), cv2.INTER_CUBIC),
        (blocks(300, 400), (96, 72), cv2.INTER_AREA),
    ):
        ours = at_resolution(image, 72).astype(int)
        assert abs(ours - cv2.resize(image, size, interpolation=way)).max() <= 1


def test_area_is_linear_where_a_side_grows() -> None:
    image = IMAGES["noise"]
    assert (resample.resize(image, 200, 40, "area") == resample.resize(image, 200, 40, "linear")).all()


def test_otsu() -> None:
    for name in ("clouds", "banana", "gradient"):
        grey = IMAGES[name][..., 1]
        assert thin.otsu(grey) == cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]


def test_what_squares_cover_and_ridges() -> None:
    grey = IMAGES["clouds"][..., 0]
    mask = grey > 130
    square = np.ones((3, 3), np.uint8)
    theirs = cv2.dilate(cv2.erode(mask.astype(np.uint8), square), square)
    assert (thin.opened(mask) == theirs.astype(bool)).all()
    values, crest = grey.astype(np.float32), np.zeros(grey.shape, np.float32)
    for line in ([[0, 0, 0], [1, 1, 1], [0, 0, 0]], [[0, 1, 0]] * 3, np.eye(3), np.eye(3)[::-1]):
        np.putmask(crest, cv2.dilate(values, kernel=np.array(line, np.uint8)) == values, values)
    assert (filters.ridges(values.astype(float)) == crest).all()


@pytest.mark.parametrize("radius", [1, 3, 4, 10])
def test_discs(radius: int) -> None:
    for centre in ((15, 15), (0, 3), (29, 31), (-2, 40), (100, 100)):
        ours, theirs = (np.zeros((32, 40, 3), np.uint8) for _ in range(2))
        shapes.disc(ours, Point(*(part + 0.7 * (part > 0) for part in centre)), radius, (9, 8, 7))
        cv2.circle(theirs, centre, radius, (9, 8, 7), -1)
        assert (ours == theirs).all()


def _limb(canvas: Any, a: Point, b: Point) -> None:
    """As OpenPose's drawing has it."""
    angle = math.degrees(math.atan2(a.y - b.y, a.x - b.x))
    middle = int((a.x + b.x) / 2), int((a.y + b.y) / 2)
    corners = cv2.ellipse2Poly(middle, (int(math.hypot(a.x - b.x, a.y - b.y) / 2), 4), int(angle), 0, 360, 1)
    cv2.fillConvexPoly(canvas, corners, (1, 2, 3))


def test_limbs_and_lines_differ_at_their_rims_alone() -> None:
    """At most 0.6 % and 2 % of the pixels drawn, none of them further than a pixel from the other drawing."""
    random = np.random.default_rng(1)
    square = np.ones((3, 3), np.uint8)
    for ours_of, theirs_of, bound in (
        (lambda c, a, b: shapes.limb(c, a, b, 4, (1, 2, 3)), _limb, 0.006),
        (
            lambda c, a, b: shapes.line(c, a, b, 1, (1, 2, 3)),
            lambda c, a, b: cv2.line(c, (int(a.x), int(a.y)), (int(b.x), int(b.y)), (1, 2, 3), 2),
            0.02,
        ),
    ):
        wrong = drawn = 0
        for _ in range(60):
            a, b = (Point(*(float(n) for n in random.uniform(-20, 220, 2))) for _ in range(2))
            a, b = (a, b) if bound < 0.01 else (Point(abs(a.x), abs(a.y)), Point(abs(b.x), abs(b.y)))
            ours, theirs = (np.zeros((240, 240, 3), np.uint8) for _ in range(2))
            ours_of(ours, a, b)
            theirs_of(theirs, a, b)
            wrong += int((ours != theirs).any(2).sum())
            drawn += int(theirs.any(2).sum())
            assert not (ours.any(2) & (cv2.dilate(theirs, square) == 0).any(2)).any()
            assert not (theirs.any(2) & (cv2.dilate(ours, square) == 0).any(2)).any()
        assert wrong <= bound * drawn, wrong / drawn
