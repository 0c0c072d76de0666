"""Faces in an image, and who they are: the SCRFD and ArcFace of insightface's packs (buffalo_l, antelopev2).

onnxruntime is optional (`pip install 'atelier[faces]'`); it is given files in ONNX, which hold no code. FaceID's
IP-Adapters and PhotoMaker were trained with the embeddings of buffalo_l, InstantID with those of antelopev2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from atelier.errors import BadFile
from atelier.vision.onnx import SUFFIX, open_network

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

    from atelier.vision.face_geometry import Floats, Found

DOES = "finding faces"
PACKS: Mapping[str, str] = MappingProxyType({"unit": "buffalo_l", "raw": "antelopev2"})
"""Insightface's pack whose embeddings a network was trained with that reads them in this form (`adapters.steering`)."""
PHOTOMAKER = PACKS["unit"]
"""The pack that version 2 of PhotoMaker was trained with, whose embeddings it reads as they are."""
STRIDES = (8, 16, 32)
SIDES = (640, 480, 320)
"""Of the square that an image is put into: a face that fills the image is only found in a smaller one."""
THRESHOLD = 0.5
EMBEDDING = 512
MAPS = 9
"""What the detector returns: scores, boxes and points of each stride."""


@dataclass(frozen=True, slots=True)
class Face:
    """box: left, top, right, bottom in pixels; score: 0 to 1; points: x and y of the eyes, the nose and the corners of
    the mouth, left before right; embedding: (512,), of ArcFace as it is."""

    box: tuple[float, float, float, float]
    score: float
    points: tuple[tuple[float, float], ...]
    embedding: torch.Tensor

    @property
    def area(self) -> float:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


@dataclass(frozen=True, slots=True)
class FaceReader:
    """detector, embedder: sessions of onnxruntime; bytes: that both take in memory, about."""

    detector: Any
    embedder: Any
    bytes: int = 0

    def faces(self, image: Image, threshold: float = THRESHOLD) -> tuple[Face, ...]:
        """All faces of an image, the largest first."""
        import numpy as np
        import torch

        from atelier.vision.face_geometry import aligned

        pixels = np.asarray(image.convert("RGB"))
        found = self.found(pixels, threshold)
        made: list[Face] = []
        for box, score, points in zip(*found, strict=True):
            own = self.embedding(aligned(pixels, points))
            places = tuple((float(x), float(y)) for x, y in points)
            sides = cast("tuple[float, float, float, float]", tuple(map(float, box)))
            made.append(Face(sides, float(score), places, torch.from_numpy(own)))
        return tuple(sorted(made, key=lambda face: -face.area))

    def found(self, pixels: NDArray[np.uint8], threshold: float = THRESHOLD) -> Found:
        """Where faces are in (h, w, 3), the most certain first."""
        sides = _fixed(self.detector) or SIDES
        for side in sides[:-1]:
            found = self._found(pixels, side, threshold)
            if len(found.scores):
                return found
        return self._found(pixels, sides[-1], threshold)

    def _found(self, pixels: NDArray[np.uint8], side: int, threshold: float) -> Found:
        import numpy as np

        from atelier.vision.face_geometry import Found, decoded, joined

        canvas, scale = _placed(pixels, side)
        maps = [own.reshape(-1, own.shape[-1]) for own in _run(self.detector, (canvas - 127.5) / 128)]
        scored, boxed, pointed = ([own for own in maps if own.shape[1] == width] for width in (1, 4, 10))
        by_stride = zip(scored, boxed, pointed, STRIDES, strict=True)
        parts = [decoded(s, b, p, stride, side // stride, threshold) for s, b, p, stride in by_stride]
        boxes, scores, points = joined(parts)
        return Found(boxes / np.float32(scale), scores, points / np.float32(scale))

    def embedding(self, face: NDArray[np.uint8]) -> Floats:
        """(512,) of a face that `aligned` has brought upright, (112, 112, 3)."""
        import numpy as np

        (made,) = _run(self.embedder, (face.astype(np.float32) - 127.5) / 127.5)
        return made.reshape(-1)


def crop(image: Image, face: Face, side: int = 224) -> Image:
    """The face alone, upright: what FaceID-plus and PhotoMaker have their image encoder read."""
    import numpy as np
    from PIL.Image import fromarray

    from atelier.vision.face_geometry import aligned

    return fromarray(aligned(np.asarray(image.convert("RGB")), np.array(face.points), side))


def open_faces(folder: Path) -> FaceReader:
    """The detector and the embedder among the .onnx files of a folder, told by what they read and return.

    Raises BadInput where onnxruntime is not installed, BadFile for a folder without the two.
    """
    detector = embedder = None
    size = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        session = open_network(path, DOES)
        is_detector, is_embedder = detector is None and _detects(session), embedder is None and _embeds(session)
        detector = session if is_detector else detector
        embedder = session if is_embedder else embedder
        size += path.stat().st_size if is_detector or is_embedder else 0
        if detector is not None and embedder is not None:
            return FaceReader(detector, embedder, size)
    lacking = "detector of faces (SCRFD)" if detector is None else "network that tells faces apart (ArcFace)"
    raise BadFile(folder, f"has no {lacking}: put the .onnx files of insightface's buffalo_l or antelopev2 there")


def _detects(session: Any) -> bool:  # noqa: ANN401 - a session of onnxruntime
    return len(session.get_outputs()) == MAPS


def _embeds(session: Any) -> bool:  # noqa: ANN401 - a session of onnxruntime
    made = session.get_outputs()
    return len(made) == 1 and made[0].shape[-1] == EMBEDDING and session.get_inputs()[0].shape[-1] == 112


def _fixed(session: Any) -> Sequence[int]:  # noqa: ANN401 - a session of onnxruntime
    """The side that a detector reads, where it reads only one; () for any."""
    side = session.get_inputs()[0].shape[-1]
    return (side,) if isinstance(side, int) else ()


def _run(session: Any, pixels: NDArray[np.floating]) -> list[Floats]:  # noqa: ANN401 - a session of onnxruntime
    import numpy as np

    given = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
    return list(_as_floats(session.run(None, {session.get_inputs()[0].name: given})))


def _as_floats(made: Sequence[Any]) -> Iterator[Floats]:
    import numpy as np

    return (np.asarray(own, np.float32) for own in made)


def _placed(pixels: NDArray[np.uint8], side: int) -> tuple[Floats, float]:
    """(the image resized into the top left corner of a black square, its new height in parts of the old one)."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    height, width = pixels.shape[:2]
    wide = height <= width
    new = (int(side * (height / width)), side) if wide else (side, int(side / (height / width)))
    own = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    resized = F.interpolate(own, size=(max(new[0], 1), max(new[1], 1)), mode="bilinear", align_corners=False)
    canvas = np.zeros((side, side, 3), np.float32)
    canvas[: resized.shape[2], : resized.shape[3]] = resized[0].permute(1, 2, 0).round().numpy()
    return canvas, resized.shape[2] / height
