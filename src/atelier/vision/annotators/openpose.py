"""People in an image as OpenPose finds them: bodies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from atelier.models.body_pose import BodyPose
    from atelier.vision.annotating import Pixels
    from atelier.vision.pose import Points

HEIGHT = 184
"""Of what the network sees, in pixels: half of what it was trained on."""
STRIDE = 8
"""Pixels of what the network sees for each of what it gives."""
GREY = 128
"""What lies beyond the image."""


def load(path: Path, device: torch.device) -> Drawer:
    """Raises BadFile."""
    import numpy as np

    from atelier.families.parts.body_pose import NETWORK
    from atelier.vision.pose import Person, Pose, drawn
    from atelier.vision.reading import read_file

    net = read_file(path, NETWORK, device)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        people = tuple(Person(points) for points in found(pixels, net, device))
        return np.asarray(drawn(Pose(pixels.shape[1], pixels.shape[0], people)))

    return Drawer(draw, (net,))


def found(pixels: Pixels, net: BodyPose, device: torch.device) -> tuple[Points, ...]:
    """The 18 keypoints of everybody in an image."""
    import numpy as np
    import torch

    from atelier.vision.arrays.resample import resize
    from atelier.vision.bodies import bodies, smoothing

    scale = HEIGHT / pixels.shape[0]
    width, height = max(1, int(pixels.shape[1] * scale)), max(1, int(pixels.shape[0] * scale))
    small = resize(pixels[..., ::-1], width, height, "area" if scale < 1 else "lanczos")
    margins = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
    seen = np.pad(small, margins, constant_values=GREY).astype(np.float32) / 256 - 0.5
    with torch.inference_mode():
        limbs, points = net(torch.from_numpy(seen).to(device).permute(2, 0, 1)[None])
    rows = _axis(limbs.shape[2], height, pixels.shape[0], is_larger=scale > 1)
    columns = _axis(limbs.shape[3], width, pixels.shape[1], is_larger=scale > 1)
    by_points, by_limbs = (each[0].permute(1, 2, 0).double().cpu().numpy() for each in (points, limbs))
    smooth = _spread(by_points, smoothing(len(rows)) @ rows, smoothing(len(columns)) @ columns)
    return bodies(_spread(by_points, rows, columns), smooth, _spread(by_limbs, rows, columns))


def _axis(count: int, seen: int, size: int, *, is_larger: bool) -> NDArray[np.float64]:
    """(size, count): from what the network gives along one side to the image's, by way of what it saw."""
    from atelier.vision.arrays.resample import matrix

    return matrix(seen, size, "area" if is_larger else "lanczos") @ matrix(count, count * STRIDE, "lanczos")[:seen]


def _spread(maps: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps (i, j, C) at the size of the image, (h, w, C)."""
    import numpy as np

    return np.tensordot(columns, np.tensordot(rows, maps, (1, 0)), (1, 1)).swapaxes(0, 1)


SPECS = (
    Annotator(
        "openpose",
        "Bodies of people as coloured sticks, without hands and faces.",
        NeedsFile(load, ("body_pose_model.pth",)),
        ("OpenposeDetector", "openpose_body"),
    ),
)
