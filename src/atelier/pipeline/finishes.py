"""What becomes of a decoded image before it is shown, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image

from atelier.pipeline.values import Key, Prepared, Values
from atelier.vision.colour import corrected
from atelier.vision.geometry import resized
from atelier.vision.masks import laid_over


class Finish(Protocol):
    """What becomes of an image (RGB) of the size that was generated."""

    def finished(self, image: Image, values: Values, /) -> Image: ...


@dataclass(frozen=True, slots=True)
class AsItIs:
    """Nothing."""

    def finished(self, image: Image, values: Values, /) -> Image:  # noqa: ARG002 - needs none
        return image


@dataclass(frozen=True, slots=True)
class OnSource:
    """It is put where it belongs in the image that it was made from; where that is kept, it is kept to the pixel.

    source: where that image is; recolour: whether the result first gets its colours.
    """

    source: Key[Prepared]
    recolour: bool

    def finished(self, image: Image, values: Values, /) -> Image:
        prepared = values.read(self.source)
        if self.recolour:
            image = corrected(image, prepared.image)
        if prepared.overlay is None:
            return image
        if prepared.box is not None:
            canvas = prepared.whole.copy()
            canvas.paste(resized(image, *prepared.box.size, "crop"), prepared.box[:2])
            image = canvas
        return laid_over(prepared.whole, image, prepared.overlay)
