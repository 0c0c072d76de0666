"""Drawing on arrays: discs, limbs and lines, in the shapes that OpenCV draws. A canvas is (h, w, 3) and is drawn on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.uint8]
Floats = NDArray[np.float64]
Colour = tuple[int, int, int]
STEPS = 360
"""Corners of the polygon that stands for an ellipse."""


class Point(NamedTuple):
    """In pixels, across and down."""

    x: float
    y: float


def disc(canvas: Canvas, centre: Point, radius: int, colour: Colour) -> None:
    """All pixels at most `radius` from the centre, which is cut to whole pixels."""
    height, width = canvas.shape[:2]
    x, y = int(centre.x), int(centre.y)
    left, right = max(x - radius, 0), min(x + radius + 1, width)
    top, bottom = max(y - radius, 0), min(y + radius + 1, height)
    if left >= right or top >= bottom:
        return
    across, down = np.arange(left, right) - x, np.arange(top, bottom) - y
    canvas[top:bottom, left:right][across**2 + down[:, None] ** 2 <= radius**2] = colour


def limb(canvas: Canvas, start: Point, end: Point, half: int, colour: Colour) -> None:
    """A filled ellipse from one point to another, `half` pixels wide to either side of the line between them."""
    across, down = start.x - end.x, start.y - end.y
    length = int(math.hypot(across, down) / 2)
    angle = math.radians(int(math.degrees(math.atan2(down, across))))
    middle = Point(int((start.x + end.x) / 2), int((start.y + end.y) / 2))
    turn = np.radians(np.arange(0, 361, 360 // STEPS))
    x, y = length * np.cos(turn), half * np.sin(turn)
    corners = np.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)], 1)
    _fill(canvas, _outline(_distinct(np.rint(corners + middle))), colour)


def _distinct(corners: Floats) -> Floats:
    """Without those that are the same as the one before."""
    moved = (corners != np.roll(corners, 1, 0)).any(1)
    return corners[moved] if moved.any() else corners[:1]


def line(canvas: Canvas, start: Point, end: Point, half: int, colour: Colour) -> None:
    """A line between two points that are cut to whole pixels, `half` pixels wide to either side, with round ends."""
    a, b = np.array([(int(start.x), int(start.y)), (int(end.x), int(end.y))], np.float64)
    length = float(np.hypot(*(b - a)))
    if length > 0:
        aside = np.array([a[1] - b[1], b[0] - a[0]]) * half / length
        _fill(canvas, _outline(np.stack([a + aside, a - aside, b - aside, b + aside])), colour)
    disc(canvas, Point(*a), half, colour)
    disc(canvas, Point(*b), half, colour)


def thin_line(canvas: Canvas, start: Point, end: Point, colour: Colour) -> None:
    """A line one pixel wide between two points that are cut to whole pixels, as far as the canvas reaches: of each
    column, or of each row where it is steeper, the pixel that is nearest; of two at the same distance the first."""
    ends = _clipped(int(start.x), int(start.y), int(end.x), int(end.y), canvas.shape[1] - 1, canvas.shape[0] - 1)
    if ends is None:
        return
    x1, y1, x2, y2 = ends if ends[0] <= ends[2] else (*ends[2:], *ends[:2])
    across, down = x2 - x1, abs(y2 - y1)
    long, short = max(across, down), min(across, down)
    steps = np.arange(long + 1)
    aside = (2 * short * steps + long - 1) // (2 * long) if long else steps
    sign = 1 if y2 >= y1 else -1
    columns, rows = (steps, aside) if across >= down else (aside, steps)
    canvas[y1 + sign * rows, x1 + columns] = colour


def _clipped(x1: int, y1: int, x2: int, y2: int, right: int, bottom: int) -> tuple[int, int, int, int] | None:
    """The ends of what lies within 0 to right and 0 to bottom, whole numbers (Cohen and Sutherland's way: first what is
    above or below, then what is beside); None for nothing."""
    if _cannot_meet(y1, y2, bottom) or _cannot_meet(x1, x2, right):
        return None
    y1, x1 = _moved(y1, x1, y2, x2, bottom)
    y2, x2 = _moved(y2, x2, y1, x1, bottom)
    if _cannot_meet(x1, x2, right):
        return None
    x1, y1 = _moved(x1, y1, x2, y2, right)
    x2, y2 = _moved(x2, y2, x1, y1, right)
    return x1, y1, x2, y2


def _cannot_meet(a: int, b: int, last: int) -> bool:
    return max(a, b) < 0 or min(a, b) > last


def _moved(at: int, beside: int, to: int, other: int, last: int) -> tuple[int, int]:
    """An end of a line at the border where it is beyond it along one side; to, other: its other end."""
    border = min(max(at, 0), last)
    if border == at:
        return at, beside
    return border, beside + int((border - at) * (other - beside) / (to - at))


def _outline(corners: Floats) -> NDArray[np.int_]:
    """The pixels (n, 2) on the edges of a polygon: one for each step along the longer side of an edge, left to right.
    A pixel halfway between two is the one that comes first."""
    following: Floats = np.roll(corners, -1, 0)
    is_leftward = (corners[:, 0] > following[:, 0])[:, None]
    starts: Floats = np.where(is_leftward, following, corners)
    ways: Floats = np.where(is_leftward, corners, following) - starts
    steps = np.ceil(abs(ways).max(1)).clip(1).astype(int)
    edges = np.repeat(np.arange(len(corners)), steps + 1)
    counted = np.arange(len(edges)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    way: Floats = ways[edges]
    places: Floats = starts[edges] + (counted / steps[edges])[:, None] * way
    pixels: Floats = np.where(way >= 0, np.ceil(places - 0.5), np.floor(places + 0.5))
    return pixels.astype(np.int_)


def _fill(canvas: Canvas, outline: NDArray[np.int_], colour: Colour) -> None:
    """Each row of a convex shape from the first to the last pixel of its outline, as far as the canvas reaches."""
    height, width = canvas.shape[:2]
    top = int(outline[:, 1].min())
    rows = outline[:, 1] - top
    first = np.full(rows.max() + 1, np.iinfo(np.int64).max)
    last = np.full(rows.max() + 1, np.iinfo(np.int64).min)
    np.minimum.at(first, rows, outline[:, 0])
    np.maximum.at(last, rows, outline[:, 0])
    for y, left, right in zip(range(top, top + len(first)), first, last, strict=True):
        if 0 <= y < height and right >= 0:
            canvas[y, max(int(left), 0) : min(int(right) + 1, width)] = colour
