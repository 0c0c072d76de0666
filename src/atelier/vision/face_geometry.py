"""Where faces are: boxes and points of a detector's maps, and the transform that brings a face upright to its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

ANCHORS = 2
"""Boxes that the detector guesses at each position."""
OVERLAP = 0.4
"""Of two boxes that share more of their area, the less certain one is dropped."""
TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Where ArcFace (Deng 2019, arXiv:1801.07698) was taught to see the eyes, the tip of the nose and the corners of the
mouth, left before right, in an image of 112 pixels."""
SIDE = 112


class Found(NamedTuple):
    """N faces. boxes: (N, 4), left, top, right, bottom; scores: (N,), 0 to 1; points: (N, 5, 2), x and y of the eyes,
    the nose and the corners of the mouth, all in pixels of the image."""

    boxes: Floats
    scores: Floats
    points: Floats


def decoded(scores: Floats, boxes: Floats, points: Floats, stride: int, width: int, threshold: float) -> Found:
    """What one map of SCRFD says (Guo 2021, arXiv:2105.04714): of each position, row by row, ANCHORS guesses.

    scores (M, 1), boxes (M, 4), points (M, 10), with M of a map `width` positions wide: distances from the position
    to the left, top, right and bottom, and to each point, in strides of so many pixels.
    """
    kept = np.flatnonzero(scores.reshape(-1) >= threshold)
    place = kept // ANCHORS
    centre = np.stack([place % width, place // width], axis=1).astype(np.float32) * stride
    left_top, right_bottom = boxes[kept, :2] * stride, boxes[kept, 2:] * stride
    sides = np.concatenate([centre - left_top, centre + right_bottom], axis=1)
    return Found(sides, scores.reshape(-1)[kept], centre[:, None] + points[kept].reshape(-1, 5, 2) * stride)


def joined(parts: Sequence[Found], overlap: float = OVERLAP) -> Found:
    """All maps together, the most certain first, each face once (non-maximum suppression)."""
    whole = Found(*(np.concatenate(own) for own in zip(*parts, strict=True)))
    order = np.argsort(-whole.scores, kind="stable")
    kept: list[int] = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(int(first))
        order = rest[_shared(whole.boxes[first], whole.boxes[rest]) <= overlap]
    return Found(*(own[kept] for own in whole))


def _shared(box: Floats, others: Floats) -> Floats:
    """The area that is common, in parts of that of both; a box has the pixel that it ends with."""
    corner = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.maximum(0, corner[1] - corner[0] + 1).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2] + 1).prod(axis=1)
    return common / ((box[2:] - box[:2] + 1).prod() + areas - common)


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """(2, 3): the turn, the scale and the shift that bring N points nearest to N others (Umeyama 1991, IEEE PAMI 13(4),
    equations 40 to 43); never a mirror image."""
    own, wanted = np.asarray(source, np.float64), np.asarray(target, np.float64)
    middle, goal = own.mean(0), wanted.mean(0)
    u, d, vt = np.linalg.svd((wanted - goal).T @ (own - middle) / len(own))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    turn = u @ np.diag(signs) @ vt
    scale = (d * signs).sum() / (own - middle).var(0).sum()
    return np.concatenate([scale * turn, (goal - scale * turn @ middle)[:, None]], axis=1)


def aligned(pixels: NDArray[np.uint8], points: NDArray[np.floating], side: int = SIDE) -> NDArray[np.uint8]:
    """The face with these points (5, 2), upright: (h, w, 3) -> (side, side, 3), black outside the image.

    side: 112, as ArcFace reads it, or a multiple.
    """
    to = similarity(points, np.array(TEMPLATE) * (side / SIDE))
    back = np.linalg.inv(np.vstack([to, [0, 0, 1]]))
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    at = back[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(side * side)])
    return np.rint(_bilinear(pixels, at[0], at[1])).clip(0, 255).astype(np.uint8).reshape(side, side, -1)


def _bilinear(pixels: NDArray[np.uint8], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The colours (K, 3) at K places; whole numbers are the middles of pixels."""
    height, width = pixels.shape[:2]
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    made = np.zeros((len(x), pixels.shape[2]))
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        share = (1 - np.abs(x - column)) * (1 - np.abs(y - row)) * inside
        made += share[:, None] * pixels[row.clip(0, height - 1), column.clip(0, width - 1)]
    return made
