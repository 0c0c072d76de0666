"""Bodies, hands and faces of people by two networks: YOLOX (Ge 2021, arXiv:2107.08430) finds the people, and DWPose
(Yang 2023, arXiv:2307.15880), or another of the form of RTMPose (Jiang 2023, arXiv:2303.07399), their keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from atelier.vision import onnx
from atelier.vision.arrays.resample import resize
from atelier.vision.arrays.shapes import Point
from atelier.vision.face_geometry import Found, joined
from atelier.vision.pose import Person, Points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Floats = NDArray[np.float32]
    Matrix = NDArray[np.float64]

DETECTED = (640, 640)
"""Height and width of what YOLOX sees."""
POSED = (384, 288)
"""The same of DWPose."""
GREY = 114
"""What lies beyond the image for YOLOX."""
STRIDES = (8, 16, 32)
PERSON = 5
"""Of a position's numbers: how sure a person is there. Before it stand a box and how sure anything is."""
SURE, OVERLAP = 0.3, 0.45
MARGIN = 1.25
"""How much larger than a person what DWPose sees of an image is."""
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PER_PIXEL = 2
"""Places that a keypoint can be at, for each pixel that DWPose sees."""
SEEN = 0.3
"""How sure a keypoint has to be."""
COUNT = 133
NECK = -1
BODY = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""COCO's number of each of OpenPose's keypoints; the neck is between the shoulders."""
SHOULDERS = (5, 6)
FACE, LEFT, RIGHT = slice(23, 91), slice(91, 112), slice(112, 133)
"""Of COCO's keypoints of whole bodies (Jin 2020, arXiv:2007.11858)."""


@dataclass(frozen=True, slots=True)
class Keypoints:
    """places: (133, 2), x and y in pixels of the image; scores: (133,)."""

    places: Matrix
    scores: Floats


def people(pixels: Pixels, detector: Any, posing: Any) -> tuple[Person, ...]:  # noqa: ANN401 - sessions of onnxruntime
    """Everybody in an image, (h, w, 3) in RGB; where nobody is found, what the whole image looks like as one."""
    height, width = pixels.shape[:2]
    boxes = found(pixels, detector)
    if not len(boxes):
        boxes = np.array([[0, 0, width, height]], np.float32)
    return tuple(person(keypoints(pixels, box, posing)) for box in boxes)


def found(pixels: Pixels, detector: Any) -> Floats:  # noqa: ANN401 - a session of onnxruntime
    """Boxes around people, (N, 4): left, top, right, bottom in pixels, the surest first."""
    canvas, scale = placed(pixels, onnx.input_size(detector, DETECTED))
    (said, *_) = onnx.run(detector, canvas[..., ::-1])
    boxes, scores = decoded(said[0], canvas.shape[0], canvas.shape[1])
    kept = scores > SURE
    own = boxes[kept] / np.float32(scale)
    return joined([Found(own, scores[kept], own)], OVERLAP).boxes


def placed(pixels: Pixels, size: tuple[int, int]) -> tuple[Pixels, float]:
    """(the image in the top left corner of a grey canvas of (height, width), its size there in parts of its own)."""
    height, width = pixels.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    canvas = np.full((*size, 3), GREY, np.uint8)
    inner = resize(pixels, max(1, int(width * scale)), max(1, int(height * scale)), "linear")
    canvas[: inner.shape[0], : inner.shape[1]] = inner
    return canvas, scale


def decoded(said: Floats, height: int, width: int) -> tuple[Floats, Floats]:
    """(boxes (M, 4), how sure a person is in each (M,)) of what YOLOX says of each position (M, 85): the middle and
    the logarithm of the size of a box, in strides from the position; then as PERSON says."""
    columns, rows, strides = (np.concatenate(own) for own in zip(*_grids(height, width), strict=True))
    middle = (said[:, :2] + np.stack([columns, rows], 1)) * strides[:, None]
    half = np.exp(said[:, 2:4]) * strides[:, None] / 2
    boxes = np.concatenate([middle - half, middle + half], 1).astype(np.float32)
    return boxes, said[:, PERSON - 1] * said[:, PERSON]


def _grids(height: int, width: int) -> list[tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.int_]]]:
    """Column, row and stride of each position, map by map, row by row."""
    made: list[tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.int_]]] = []
    for stride in STRIDES:
        across, down = width // stride, height // stride
        columns, rows = np.tile(np.arange(across), down), np.repeat(np.arange(down), across)
        made.append((columns, rows, np.full(across * down, stride)))
    return made


def keypoints(pixels: Pixels, box: Floats, posing: Any) -> Keypoints:  # noqa: ANN401 - a session of onnxruntime
    """Those of whom a box is around."""
    height, width = onnx.input_size(posing, POSED)
    middle, size = around(box, height, width)
    seen = (cropped(pixels, middle, size, height, width) - np.array(MEAN)) / np.array(DEVIATION)
    across, down = onnx.run(posing, seen)[:2]
    places = np.stack([across[0].argmax(1), down[0].argmax(1)], 1) / PER_PIXEL
    scores = np.minimum(across[0].max(1), down[0].max(1))
    return Keypoints(places / (width, height) * size + middle - size / 2, scores)


def around(box: Floats, height: int, width: int) -> tuple[Matrix, Matrix]:
    """(middle, size), each x and y in pixels: what of an image is seen at height x width for a box, with a margin."""
    middle = (box[:2] + box[2:]).astype(np.float64) / 2
    across, down = (box[2:] - box[:2]).astype(np.float64) * MARGIN
    aspect = width / height
    size = (across, across / aspect) if across > down * aspect else (down * aspect, down)
    return middle, np.array(size).clip(1e-3)


def cropped(pixels: Pixels, middle: Matrix, size: Matrix, height: int, width: int) -> Matrix:
    """That part of an image at height x width, between pixels as they lie; black outside the image."""
    rows = _sampling(pixels.shape[0], middle[1], size[1], height)
    columns = _sampling(pixels.shape[1], middle[0], size[0], width)
    return np.rint(np.einsum("ih,hwc,jw->ijc", rows, pixels.astype(np.float64), columns, optimize=True))


def _sampling(old: int, middle: float, size: float, new: int) -> Matrix:
    """(new, old): the weights of an image's pixels along one side. Whole numbers are the middles of pixels."""
    places = (np.arange(new) - new / 2) * (size / new) + middle
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)))


def person(own: Keypoints) -> Person:
    return Person(_body(own), _part(own, LEFT), _part(own, RIGHT), _part(own, FACE))


def _body(own: Keypoints) -> Points:
    return tuple(_neck(own) if number == NECK else _point(own, number) for number in BODY)


def _neck(own: Keypoints) -> Point | None:
    if any(own.scores[number] <= SEEN for number in SHOULDERS):
        return None
    x, y = own.places[list(SHOULDERS)].mean(0)
    return Point(float(x), float(y))


def _part(own: Keypoints, numbers: slice) -> Points:
    return tuple(_point(own, number) for number in range(COUNT)[numbers])


def _point(own: Keypoints, number: int) -> Point | None:
    x, y = own.places[number]
    return Point(float(x), float(y)) if own.scores[number] >= SEEN else None
