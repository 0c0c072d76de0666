"""Drawing people of their keypoints, in the form that ControlNet's pose models and InstantID were trained on.

A body has 18 keypoints in the order of OpenPose's COCO model: nose, neck, right shoulder, elbow, wrist, left shoulder,
elbow, wrist, right hip, knee, ankle, left hip, knee, ankle, right eye, left eye, right ear, left ear; a hand has 21, a
face 68 or 70.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast

import numpy as np
from PIL import Image

from atelier.errors import BadInput
from atelier.vision.arrays.shapes import Canvas, Colour, Point, disc, limb, line

Points = tuple[Point | None, ...]
"""In pixels; None for what was not found."""

BODY, HAND = 18, 21
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Of a body, each in the colour of its own number."""
COLOURS: tuple[Colour, ...] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
FINGERS = tuple((0 if i == 0 else 4 * finger + i, 4 * finger + i + 1) for finger in range(5) for i in range(4))
"""Of a hand: from the wrist along each finger."""
FADE = 0.6
"""Limbs are darker than the keypoints upon them."""
LIMB, DOT, HAND_LINE, FACE_DOT = 4, 4, 1, 3
"""Half widths and radii in pixels."""
DOT_OF_HANDS: Colour = (0, 0, 255)
DOT_OF_FACES: Colour = (255, 255, 255)
LEAST = 0.01
"""Keypoints nearer to the corner than this, in pixels, were not found."""

FACE_COLOURS: tuple[Colour, ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
"""InstantID: the left eye, the right eye, the nose, the left and the right corner of the mouth."""
FACE_LIMBS = ((0, 2), (1, 2), (3, 2), (4, 2))
FACE_RADIUS = 10
LARGEST = 16384
"""Side of a canvas in pixels."""


@dataclass(frozen=True, slots=True)
class Person:
    """What was found of somebody; empty where nothing was looked for."""

    body: Points = ()
    left_hand: Points = ()
    right_hand: Points = ()
    face: Points = ()


@dataclass(frozen=True, slots=True)
class Pose:
    """People on a canvas of width x height pixels."""

    width: int
    height: int
    people: tuple[Person, ...]


def drawn(pose: Pose) -> Image.Image:
    """The hint, RGB: for each person the body, the hands, then the face, on black."""
    canvas = np.zeros((pose.height, pose.width, 3), np.uint8)
    for person in pose.people:
        _draw_body(canvas, person.body)
        for hand in (person.left_hand, person.right_hand):
            _draw_hand(canvas, hand)
        for point in person.face:
            if _is_there(point):
                disc(canvas, point, FACE_DOT, DOT_OF_FACES)
    return Image.fromarray(canvas)


def face_drawn(points: Sequence[Point], width: int, height: int) -> Image.Image:
    """InstantID's hint of the five points of a face, RGB: lines to the nose, darker, and the points upon them."""
    canvas = np.zeros((height, width, 3), np.uint8)
    for start, end in FACE_LIMBS:
        limb(canvas, points[start], points[end], LIMB, FACE_COLOURS[start])
    canvas = (canvas * FADE).astype(np.uint8)
    for point, colour in zip(points, FACE_COLOURS, strict=True):
        disc(canvas, point, FACE_RADIUS, colour)
    return Image.fromarray(canvas)


def read_poses(text: str) -> tuple[Pose, ...]:
    """OpenPose's JSON as A1111's ControlNet extension writes it: an object, or a list of such.

    Coordinates are in pixels, or, where none of a person's is above 1, in shares of the canvas. Raises BadInput.
    """
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"keypoints: this is no JSON ({error})") from error
    return tuple(pose_of(each) for each in (cast("list[object]", found) if isinstance(found, list) else [found]))


def pose_of(found: object) -> Pose:
    """One pose of what its JSON holds. Raises BadInput, naming the part that is wrong."""
    if not isinstance(found, Mapping):
        raise BadInput('keypoints: an object with "people", "canvas_width" and "canvas_height" is needed')
    values = cast("Mapping[str, object]", found)
    width, height = (_side(values, side) for side in ("canvas_width", "canvas_height"))
    people = values.get("people")
    if not isinstance(people, list):
        raise BadInput("keypoints: people is no list")
    return Pose(width, height, tuple(_person(each, width, height) for each in cast("list[object]", people)))


def _side(values: Mapping[str, object], name: str) -> int:
    side = values.get(name)
    if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= LARGEST:
        raise BadInput(f"keypoints: {name} is {side!r}; a whole number from 1 to {LARGEST} is needed")
    return side


def _person(found: object, width: int, height: int) -> Person:
    if not isinstance(found, Mapping):
        raise BadInput("keypoints: a person is no object")
    values = cast("Mapping[str, object]", found)
    body = _points(values, "pose_keypoints_2d", width, height, (BODY,))
    left = _points(values, "hand_left_keypoints_2d", width, height, (HAND,))
    right = _points(values, "hand_right_keypoints_2d", width, height, (HAND,))
    return Person(body, left, right, _points(values, "face_keypoints_2d", width, height, (68, 70)))


def _points(values: Mapping[str, object], name: str, width: int, height: int, counts: tuple[int, ...]) -> Points:
    """Triples (x, y, confidence); a confidence of 0 is a point that was not found."""
    found = values.get(name)
    if not found:
        return ()
    numbers = _numbers(found, name)
    if len(numbers) not in {3 * count for count in counts}:
        wanted = " or ".join(str(3 * count) for count in counts)
        raise BadInput(f"keypoints: {name} has {len(numbers)} numbers; {wanted} are needed")
    triples = list(zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True))
    in_shares = all(abs(x) <= 1 and abs(y) <= 1 for x, y, _ in triples)
    across, down = (width, height) if in_shares else (1, 1)
    return tuple(Point(x * across, y * down) if sure > 0 else None for x, y, sure in triples)


def _numbers(found: object, name: str) -> list[float]:
    listed = cast("list[object]", found) if isinstance(found, list) else [None]
    numbers = [float(n) for n in listed if isinstance(n, int | float) and abs(n) < 1e6]
    if len(numbers) != len(listed):
        raise BadInput(f"keypoints: {name} is no list of numbers")
    return numbers


def _draw_body(canvas: Canvas, points: Points) -> None:
    if not points:
        return
    for (start, end), colour in zip(LIMBS, COLOURS, strict=False):
        a, b = points[start], points[end]
        if a is not None and b is not None:
            red, green, blue = (int(part * FADE) for part in colour)
            limb(canvas, a, b, LIMB, (red, green, blue))
    for point, colour in zip(points, COLOURS, strict=True):
        if point is not None:
            disc(canvas, point, DOT, colour)


def _draw_hand(canvas: Canvas, points: Points) -> None:
    if not points:
        return
    for number, (start, end) in enumerate(FINGERS):
        a, b = points[start], points[end]
        if _is_there(a) and _is_there(b):
            red, green, blue = (round(part * 255) for part in colorsys.hsv_to_rgb(number / len(FINGERS), 1, 1))
            line(canvas, a, b, HAND_LINE, (red, green, blue))
    for point in points:
        if _is_there(point):
            disc(canvas, point, DOT, DOT_OF_HANDS)


def _is_there(point: Point | None) -> TypeGuard[Point]:
    return point is not None and int(point.x) > LEAST and int(point.y) > LEAST
