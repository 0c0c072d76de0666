"""Bringing the image to start from, and its mask, to the size that is generated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from atelier.errors import BadInput
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import UPSCALER
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Key, Prepared, Values
from atelier.request.events import Event
from atelier.request.resolved import InFile, NoFile, ResolvedMask, ResolvedSource, ResolvedUpscale, Size
from atelier.vision import masks
from atelier.vision.catalogue import filters
from atelier.vision.geometry import Resize, resized

GROUND = "white"
"""Behind what is transparent in an image, as in A1111."""


@dataclass(frozen=True, slots=True)
class Prepare(Stage):
    """Reads the image, and the mask if there is one, and leaves both under `out` at `size`.

    An image whose latent is resized stays as large as it is; one that an upscaler enlarges has the size by that.
    """

    source: ResolvedSource
    size: Size
    out: Key[Prepared]

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [Need(file.file, UPSCALER) for file in (self._file,) if isinstance(file, InFile)]
        return tuple(needs)

    @property
    def _file(self) -> NoFile | InFile:
        upscale = self.source.upscale
        return upscale.file if isinstance(upscale, ResolvedUpscale) else NoFile()

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        opened = have.image(self.source.image)
        image, mask, upscale = self._flat(opened), self._mask(opened, have), self.source.upscale
        if isinstance(upscale, ResolvedUpscale):
            file = self._file
            upscaler = have.take(Need(file.file, UPSCALER)) if isinstance(file, InFile) else filters()[upscale.upscaler]
            image = upscaler.enlarge(image, self.size)
            mask = mask if mask is None else mask.resize(self.size, Image.Resampling.BICUBIC)
        values.put(self.out, _prepared(image, mask, self.source, self.size))
        yield from ()

    def _flat(self, opened: Image.Image) -> Image.Image:
        """What is transparent and made anew lies over its surroundings: white would be seen along its edge."""
        mask = self.source.mask
        is_made_anew = isinstance(mask, ResolvedMask) and mask.transparent and not mask.invert
        if is_made_anew and opened.mode == "RGBA" and opened.getchannel("A").getbbox():
            return masks.filled(opened.convert("RGB"), masks.transparent_in(opened))
        return flat(opened)

    def _mask(self, opened: Image.Image, have: Lent) -> Image.Image | None:
        mask = self.source.mask
        if not isinstance(mask, ResolvedMask):
            return None
        soft = mask.soft.kind == "soft"
        found = masks.transparent_in(opened) if mask.transparent else masks.mask_of(have.image(mask.image), soft=soft)
        if found.size != opened.size:
            raise BadInput(
                f"mask {mask.image.path}: is {found.width}x{found.height}, the image {opened.width}x{opened.height}: "
                "give one of the same size"
            )
        found = masks.inverted(found) if mask.invert else found
        if masks.is_empty(found):
            raise BadInput(
                f"mask {mask.image.path}: shows nothing to be made anew (white is); invert it with mask_mode"
            )
        return masks.blurred(found, mask.blur)


def _prepared(image: Image.Image, mask: Image.Image | None, source: ResolvedSource, size: Size) -> Prepared:
    if mask is None:
        own = image if source.resize == "latent" else resized(image, *size, source.resize)
        return Prepared(own, None, own, None, None)
    assert isinstance(source.mask, ResolvedMask)
    if source.mask.only_masked:
        box = masks.crop_box(mask, source.mask.padding, *size)
        cut, cut_mask = (layer if box is None else layer.crop(box) for layer in (image, mask))
        return _masked(resized(cut, *size, "fill"), resized(cut_mask, *size, "fill"), image, mask, box, source.mask)
    how: Resize = "stretch" if source.resize == "latent" else source.resize
    whole, own_mask = resized(image, *size, how), resized(mask, *size, how)
    return _masked(whole, own_mask, whole, masks.overlay_mask(own_mask), None, source.mask)


def _masked(
    image: Image.Image,
    mask: Image.Image,
    whole: Image.Image,
    overlay: Image.Image,
    box: masks.Box | None,
    wanted: ResolvedMask,
) -> Prepared:
    filled = image if wanted.content == "original" else masks.filled(image, mask)
    return Prepared(filled, mask, whole, overlay, box)


def flat(image: Image.Image) -> Image.Image:
    """RGB, over white where it is transparent."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, GROUND), image).convert("RGB")
