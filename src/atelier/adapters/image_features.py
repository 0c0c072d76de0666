"""What image prompts read of images: from an encoder of images, and of the faces in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.adapters.steering import Features, Needs
from atelier.checkpoints.image_encoder import ImageEncoder
from atelier.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

    from atelier.models.clip import VisionSpec

ENCODERS = {
    ("embedding", 1024): "ViT-H",
    ("embedding", 1280): "ViT-bigG",
    ("embedding", 768): "ViT-L",
    ("states", 1280): "ViT-H",
    ("states", 1664): "ViT-bigG",
    ("states", 1024): "ViT-L",
}
"""What encoder gives an embedding, or states, of so many numbers."""


def suits(encoder: ImageEncoder, needs: Needs) -> bool:
    """Whether the encoder gives what is needed of one."""
    return suits_spec(encoder.net.spec, needs)


def suits_spec(spec: VisionSpec, needs: Needs) -> bool:
    """The same of an encoder of that shape."""
    given = {"embedding": spec.projection, "states": spec.width, None: needs.width}[needs.image]
    return given == needs.width


def image_features(
    encoder: ImageEncoder | None, images: Sequence[Image], needs: Needs, faces: Tensor | None = None
) -> Features:
    """Of N images, and of no image: its embedding is zeros, and its states are those of the mean of all colours, as
    IP-Adapters are trained with.

    faces: (N, 512), the embeddings of ArcFace as they come from it; of FaceID-plus the images are the faces alone,
    upright and cut out. Raises BadInput where something is missing, or the encoder is another.
    """
    if needs.face and faces is None:
        raise BadInput("this image prompt reads faces: it needs an image with a face in it")
    face = F.normalize(faces.float(), dim=-1) if faces is not None and needs.face == "unit" else faces
    if needs.image is None:
        return Features(face=face)
    if encoder is None or not suits(encoder, needs):
        raise BadInput(_wanted(encoder, needs))
    seen = encoder.states(images)
    if needs.image == "states":
        return Features(seen.hidden[-2], encoder.nothing().hidden[-2], face)
    assert seen.embedding is not None
    return Features(seen.embedding, torch.zeros_like(seen.embedding[:1]), face)


def _wanted(encoder: ImageEncoder | None, needs: Needs) -> str:
    known = ENCODERS.get((needs.image or "", needs.width))
    wanted = f"an image encoder whose {needs.image} has {needs.width} numbers" + (f" (CLIP {known})" if known else "")
    if encoder is None:
        return f"this image prompt needs {wanted}"
    spec = encoder.net.spec
    own = spec.projection if needs.image == "embedding" else spec.width
    return f"image encoder {encoder.name}: has {own} where this image prompt needs {wanted}"
