"""Masks: where an image is made anew. Mode L, 255 is made anew, 0 is kept. The rules are A1111's:
docs/compatibility/img2img.md."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps

OPAQUE = 128
"""An alpha above this is painted, where alpha is what a mask is drawn with."""
FILLS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))
"""Radii of blur, each laid over those before it so many times: what surrounds a mask flows into it."""

_BLOCK = 256
"""Columns that are blurred at once."""


class Box(NamedTuple):
    """A rectangle in pixels; right and bottom are outside of it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top


def mask_of(image: Image.Image, *, soft: bool = False) -> Image.Image:
    """The mask that an image file is: what is painted of a drawing on a transparent ground, else how bright it is.

    soft: what is half transparent stays half of a mask.
    """
    if image.mode == "RGBA":
        alpha = image.getchannel("A")
        low, high = alpha.getextrema()
        if low != high:
            if soft:
                return alpha
            return Image.fromarray(np.where(np.asarray(alpha) > OPAQUE, 255, 0).astype(np.uint8))
    return image.convert("L")


def transparent_in(image: Image.Image) -> Image.Image:
    """The mask of what is transparent in an image."""
    return ImageOps.invert(image.convert("RGBA").getchannel("A"))


def blurred(mask: Image.Image, sigma: float) -> Image.Image:
    """The mask with soft edges: a Gaussian of `sigma` pixels, cut off at 2.5 sigma, first across and then down."""
    if sigma <= 0:
        return mask
    values = np.asarray(mask)
    for axis in (1, 0):
        values = _smoothed(values, sigma, axis)
    return Image.fromarray(values)


def _smoothed(values: NDArray[np.uint8], sigma: float, axis: int) -> NDArray[np.uint8]:
    reach = int(2.5 * sigma + 0.5)
    places = np.arange(-reach, reach + 1)
    kernel = np.exp(-(places**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    margin = [(0, 0), (0, 0)]
    margin[axis] = (reach, reach)
    padded = np.pad(values.astype(np.float64), margin, mode="reflect" if reach < values.shape[axis] else "symmetric")
    total = _across(padded, kernel) if axis else _across(padded.T, kernel).T
    return np.rint(total).clip(0, 255).astype(np.uint8)


def _across(padded: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """(h, w + k - 1) -> (h, w), each weighed with what follows it by a kernel of k: a product of matrices, block by
    block, since one sum for each of a thousand weights takes minutes."""
    width, reach = padded.shape[1] - len(kernel) + 1, len(kernel) - 1
    bands = np.zeros((_BLOCK + reach, _BLOCK))
    columns = np.arange(_BLOCK)
    bands[columns[:, None] + np.arange(len(kernel)), columns[:, None]] = kernel
    total = np.empty((padded.shape[0], width))
    for start in range(0, width, _BLOCK):
        count = min(_BLOCK, width - start)
        total[:, start : start + count] = padded[:, start : start + count + reach] @ bands[: count + reach, :count]
    return total


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """`image` (RGB) with what surrounds the mask in place of what is under it."""
    around = Image.new("RGBa", image.size)
    around.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    result = Image.new("RGBA", image.size)
    for radius, times in FILLS:
        layer = around.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            result.alpha_composite(layer)
    return result.convert("RGB")


def crop_box(mask: Image.Image, padding: int, width: int, height: int) -> Box | None:
    """What to look at where only the mask is made anew: the rectangle around it, `padding` pixels larger each way, then
    brought to the proportions of width x height as far as the image reaches. None for a mask that is empty."""
    found = mask.getbbox()
    if found is None:
        return None
    left, top, right, bottom = found
    inside = Box(
        max(left - padding, 0),
        max(top - padding, 0),
        min(right + padding, mask.width),
        min(bottom + padding, mask.height),
    )
    across, down = inside.size
    if across * height > down * width:
        wanted = int(across / (width / height))
        top, bottom = _widened(inside.top, inside.bottom, wanted - down, mask.height)
        return Box(inside.left, top, inside.right, bottom)
    wanted = int(down * (width / height))
    left, right = _widened(inside.left, inside.right, wanted - across, mask.width)
    return Box(left, inside.top, right, inside.bottom)


def _widened(low: int, high: int, more: int, limit: int) -> tuple[int, int]:
    """An interval `more` longer, half of it before; moved inside 0 to `limit`, and cut where it is longer than that."""
    low, high = low - more // 2, high + more - more // 2
    if high >= limit:
        low, high = low - (high - limit), limit
    if low < 0:
        low, high = 0, high - low
    return low, min(high, limit)


def overlay_mask(mask: Image.Image) -> Image.Image:
    """The mask through which the result is laid over the original: twice as dense, so that soft edges are inside."""
    return Image.fromarray((np.asarray(mask, np.uint16) * 2).clip(0, 255).astype(np.uint8))


def laid_over(original: Image.Image, made: Image.Image, mask: Image.Image) -> Image.Image:
    """`made` where the mask is, over `original`; where the mask is 0, every pixel is the original's."""
    return Image.composite(made.convert("RGB"), original.convert("RGB"), mask)


def within(overlay: Image.Image, mask: Image.Image) -> Image.Image:
    """`overlay` (L), but 0 where `mask` is."""
    return Image.composite(overlay, Image.new("L", overlay.size), mask.point(lambda value: 255 if value else 0))


def is_empty(mask: Image.Image) -> bool:
    """Whether nothing is made anew."""
    return mask.getbbox() is None


def inverted(mask: Image.Image) -> Image.Image:
    return ImageChops.invert(mask)
