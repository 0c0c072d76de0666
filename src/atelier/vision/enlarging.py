"""Making any image larger with an upscaler, which itself knows colours alone: transparency, and other proportions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.upscaling import Size, Tell, Upscaler, quiet

if TYPE_CHECKING:
    from PIL.Image import Image

SPREAD = 4
"""Standard deviation in pixels with which colours are carried under what is wholly transparent."""


def enlarge(upscaler: Upscaler, image: Image, size: Size, tell: Tell = quiet) -> Image:
    """An image of exactly that size from one in RGB or RGBA; its mode stays.

    Transparency goes through the same upscaler, as a grey image. Raises what the upscaler raises.
    """
    if image.mode != "RGBA":
        return upscaler.enlarge(image.convert("RGB"), size, tell)
    alpha = image.getchannel("A")
    large = upscaler.enlarge(_without_holes(image), size, lambda done, total: tell(done, 2 * total))
    mask = upscaler.enlarge(alpha.convert("RGB"), size, lambda done, total: tell(total + done, 2 * total))
    large.putalpha(mask.getchannel("G"))
    return large


def cover(upscaler: Upscaler, image: Image, size: Size, tell: Tell = quiet) -> Image:
    """An image of exactly that size: enlarged until it covers it, and what is too much cut off evenly."""
    by = max(size[0] / image.width, size[1] / image.height)
    large = (max(size[0], round(image.width * by)), max(size[1], round(image.height * by)))
    left, top = (large[0] - size[0]) // 2, (large[1] - size[1]) // 2
    enlarged = enlarge(upscaler, image, large, tell)
    return enlarged if large == size else enlarged.crop((left, top, left + size[0], top + size[1]))


def _without_holes(image: Image) -> Image:
    """The colours, with those of the neighbourhood where the image is wholly transparent: what stands there is nobody's
    intention, often black, and would show as a fringe."""
    from PIL.Image import composite
    from PIL.ImageFilter import GaussianBlur

    holes = image.getchannel("A").point([255] + [0] * 255)
    colours = image.convert("RGB")
    if holes.getbbox() is None:
        return colours
    around = image.convert("RGBa").filter(GaussianBlur(SPREAD))
    return composite(around.convert("RGBA").convert("RGB"), colours, holes)
