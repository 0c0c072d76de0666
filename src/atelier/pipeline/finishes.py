"""What becomes of a decoded image before it is shown, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image, new
from torch import Tensor

from atelier.pipeline.values import Key, Known, Prepared, Values
from atelier.vision.canvas import joined
from atelier.vision.colour import corrected
from atelier.vision.difference import Sensitivity, changed
from atelier.vision.geometry import resized
from atelier.vision.masks import laid_over, within


class Finish(Protocol):
    """What becomes of an image (RGB) of the size that was generated."""

    def finished(self, image: Image, latent: Tensor, values: Values, /) -> Image:
        """latent: (C, h, w), that the image was decoded from."""
        ...


@dataclass(frozen=True, slots=True)
class AsItIs:
    """Nothing."""

    def finished(self, image: Image, latent: Tensor, values: Values, /) -> Image:  # noqa: ARG002 - needs none
        return image


@dataclass(frozen=True, slots=True)
class WhatChanged:
    """A result is seen where its latent is another than that of the image it was made from, which `known` holds."""

    known: Key[Known]
    wanted: Sensitivity

    def overlay(self, latent: Tensor, size: tuple[int, int], values: Values) -> Image:
        """The mask (L) of `size`."""
        known = values.read(self.known)
        before, after, mask = (t.double().cpu().numpy() for t in (known.latent[0], latent, known.mask[0, 0]))
        return changed(before, after, mask, self.wanted, size)


@dataclass(frozen=True, slots=True)
class OnSource:
    """It is put where it belongs in the image that it was made from; where that is kept, it is kept to the pixel.

    source: where that image is; recolour: whether the result first gets its colours; seen: what says
    where the result is seen, None for the mask.
    """

    source: Key[Prepared]
    recolour: bool
    seen: WhatChanged | None = None

    def finished(self, image: Image, latent: Tensor, values: Values, /) -> Image:
        prepared = values.read(self.source)
        if self.recolour:
            image = corrected(image, prepared.image)
        if prepared.kept is not None:
            return joined(prepared.whole, image, prepared.kept)
        if prepared.overlay is None:
            return image
        overlay = prepared.overlay
        if self.seen is not None:
            overlay = within(_placed(self.seen.overlay(latent, image.size, values), prepared), overlay)
        if prepared.box is not None:
            canvas = prepared.whole.copy()
            canvas.paste(resized(image, *prepared.box.size, "crop"), prepared.box[:2])
            image = canvas
        return laid_over(prepared.whole, image, overlay)


def _placed(overlay: Image, prepared: Prepared) -> Image:
    """What was found in the part that was generated, where it lies in the whole."""
    if prepared.box is None:
        return overlay
    canvas = new("L", prepared.whole.size)
    canvas.paste(resized(overlay, *prepared.box.size, "crop"), prepared.box[:2])
    return canvas
