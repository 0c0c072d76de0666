"""A model's own CLIP, as a judge of how much an image is like a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.families.parts import PROJECTION, VISION

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from atelier.models.clip import ClipJoint, ClipVision


@dataclass(frozen=True, slots=True)
class ImageText:
    """The image encoder, and the projection of the text encoder's pooled states into its space."""

    vision: ClipVision
    joint: ClipJoint

    def similarity(self, pixels: Tensor, pooled: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in [-1, 1], of any size; pooled (B, P) -> the cosine of each with its own, (B,) float32.

        Images are brought to the encoder's size as a whole.
        """
        import torch.nn.functional as F

        from atelier.models.clip import normalised

        side, weight = self.vision.spec.image, self.joint.text_projection.weight
        if pixels.shape[2:] != (side, side):
            pixels = F.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
        image = self.vision(normalised(pixels / 2 + 0.5).to(weight.dtype)).embedding
        assert image is not None
        return F.cosine_similarity(image.float(), self.joint(pooled.to(weight)).float())


def has_image_text(model: Checkpoint) -> bool:
    """Whether a model brings what `image_text` needs; none but a few do."""
    return model.has(VISION) and model.has(PROJECTION)


def image_text(model: Checkpoint, dtype: torch.dtype | None = None) -> ImageText:
    """Raises BadFile for a model without an image encoder, or without the projection."""
    return ImageText(model.load(VISION, dtype, mapped=False), model.load(PROJECTION, dtype, mapped=False))
