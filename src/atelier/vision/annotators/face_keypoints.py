"""Where a face is, as InstantID's ControlNet reads it: the five points of the largest one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import BadInput
from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import torch

    from atelier.vision.annotating import Pixels


def load(path: Path, _: torch.device) -> Drawer:
    """Raises BadFile, and BadInput where onnxruntime is not installed."""
    import numpy as np

    from atelier.vision.arrays.shapes import Point
    from atelier.vision.faces import open_faces
    from atelier.vision.pose import face_drawn

    reader = open_faces(path)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        """Raises BadInput where there is no face."""
        boxes, _scores, points = reader.found(pixels)
        if not len(boxes):
            raise BadInput("no face is found in the image: choose one with a face seen from the front")
        largest = int(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax())
        there = [Point(float(x), float(y)) for x, y in points[largest]]
        return np.asarray(face_drawn(there, pixels.shape[1], pixels.shape[0]))

    return Drawer(draw, bytes=reader.bytes)


SPECS = (
    Annotator(
        "instant_id_face_keypoints",
        "The five points of the largest face, for InstantID's ControlNet.",
        NeedsFile(load, ("antelopev2", "buffalo_l")),
        frame="sized",
    ),
)
