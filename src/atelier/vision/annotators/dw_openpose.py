"""Bodies, hands and faces by DWPose, drawn as OpenPose's are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.errors import BadFile
from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import torch

    from atelier.vision.annotating import Pixels

DETECTOR = "yolox_l.onnx"
"""What finds the people, in the folder of the other file."""
DOES = "finding poses"


def load(path: Path, _: torch.device) -> Drawer:
    """Raises BadFile, and BadInput where onnxruntime is not installed."""
    import numpy as np

    from atelier.vision.onnx import open_network
    from atelier.vision.pose import Pose, drawn
    from atelier.vision.whole_bodies import COUNT, people

    beside = path.with_name(DETECTOR)
    posing, detector = open_network(path, DOES), open_network(beside, DOES)
    _check(path, posing, outputs=2, axis=1, count=COUNT)
    _check(beside, detector, outputs=1, axis=2, count=85)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        height, width = pixels.shape[:2]
        return np.asarray(drawn(Pose(width, height, people(pixels, detector, posing))))

    return Drawer(draw, bytes=path.stat().st_size + beside.stat().st_size)


def _check(path: Path, session: Any, *, outputs: int, axis: int, count: int) -> None:  # noqa: ANN401 - of onnxruntime
    """Raises BadFile for a network of another purpose."""
    made = [own.shape for own in session.get_outputs()]
    if len(made) < outputs or any(len(shape) != 3 or shape[axis] not in (count, None) for shape in made[:outputs]):
        raise BadFile(path, f"is another network: its outputs are {made}; get {path.name} of DWPose")


SPECS = (
    Annotator(
        "dw_openpose_full",
        "Bodies, hands and faces of people by DWPose; needs its detector yolox_l.onnx beside its file.",
        NeedsFile(
            load, ("dw-ll_ucoco_384.onnx", "dw-ll_ucoco.onnx", "dw-mm_ucoco.onnx", "dw-ss_ucoco.onnx"), (DETECTOR,)
        ),
        ("DWposeDetector", "dwpose", "dw_openpose"),
    ),
)
