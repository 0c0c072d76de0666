"""Bodies, hands and faces by DWPose, drawn as OpenPose's are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.errors import BadFile
from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import torch

    from atelier.vision.annotating import Pixels
    from atelier.vision.pose import Person

DETECTOR = "yolox_l.onnx"
"""What finds the people, in the folder of the other file."""
DOES = "finding poses"


@dataclass(frozen=True, slots=True)
class Parts:
    """What is drawn of everybody."""

    body: bool = True
    hands: bool = True
    face: bool = True

    def of(self, person: Person) -> Person:
        hidden = {"body": self.body, "left_hand": self.hands, "right_hand": self.hands, "face": self.face}
        return replace(person, **{name: () for name, is_drawn in hidden.items() if not is_drawn})


def load(path: Path, _: torch.device, parts: Parts = Parts()) -> Drawer:
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
        found = tuple(map(parts.of, people(pixels, detector, posing)))
        return np.asarray(drawn(Pose(width, height, found)))

    return Drawer(draw, bytes=path.stat().st_size + beside.stat().st_size)


def _check(path: Path, session: Any, *, outputs: int, axis: int, count: int) -> None:  # noqa: ANN401 - of onnxruntime
    """Raises BadFile for a network of another purpose."""
    made = [own.shape for own in session.get_outputs()]
    if len(made) < outputs or any(len(shape) != 3 or shape[axis] not in (count, None) for shape in made[:outputs]):
        raise BadFile(path, f"is another network: its outputs are {made}; get {path.name} of DWPose")


FILES = ("dw-ll_ucoco_384.onnx", "dw-ll_ucoco.onnx", "dw-mm_ucoco.onnx", "dw-ss_ucoco.onnx")


def _annotator(name: str, help: str, parts: Parts, *aliases: str) -> Annotator:  # noqa: A002 - what the class calls it
    return Annotator(name, help, NeedsFile(partial(load, parts=parts), FILES, (DETECTOR,)), aliases)


SPECS = (
    _annotator(
        "dw_openpose_full",
        "Bodies, hands and faces of people by DWPose; needs its detector yolox_l.onnx beside its file.",
        Parts(),
        *("DWposeDetector", "dwpose", "dw_openpose", "openpose_full"),
    ),
    _annotator("openpose_hand", "Bodies and hands by DWPose.", Parts(face=False)),
    _annotator("openpose_face", "Bodies and faces by DWPose.", Parts(hands=False)),
    _annotator("openpose_faceonly", "Faces by DWPose.", Parts(body=False, hands=False)),
)
