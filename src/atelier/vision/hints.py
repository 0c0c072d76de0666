"""Hints at the size of a request, and as numbers. The rules are A1111's: docs/steering.md."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.vision import geometry
from atelier.vision.annotate import MOST_PIXELS, Ready, at_scale, on_white
from atelier.vision.arrays.filters import ridges
from atelier.vision.arrays.resample import resize
from atelier.vision.arrays.thin import opened, otsu, thinned
from atelier.vision.arrays.tones import grey
from atelier.vision.geometry import Resize
from atelier.vision.upscaling import Size

Pixels = NDArray[np.uint8]

FEW = 200
"""A map of fewer colours is one of labels: a colour between two of them would be a third label."""
BLACK, WHITE = 16, 240
"""A map of two colours is one of lines where one is darker and the other brighter than these."""
INPAINT = "inpaint_only"
"""The annotator whose hint has holes, as the mask of the image to start from says."""
HIDDEN = -1.0
"""What stands for pixels under the mask of an inpainting hint."""


def fitted(hint: Image.Image, width: int, height: int, how: Resize) -> Image.Image:
    """A hint (RGB) at width x height: thin lines stay thin and labels stay labels.

    stretch: its sides change as they must. crop: it covers the whole, and what hangs over is cut off evenly. fill: it
    fits in, and around it is the median of its outermost pixels.
    """
    pixels = np.asarray(hint.convert("RGB"))
    if how == "stretch":
        return Image.fromarray(resized(pixels, width, height))
    geometry.check_proportions(hint.size, width, height, covers=how == "crop")
    scales = width / hint.width, height / hint.height
    scale = max(scales) if how == "crop" else min(scales)
    inner = resized(pixels, max(1, round(hint.width * scale)), max(1, round(hint.height * scale)))
    if how == "crop":
        left, top = max(0, inner.shape[1] - width) // 2, max(0, inner.shape[0] - height) // 2
        return Image.fromarray(np.ascontiguousarray(inner[top : top + height, left : left + width]))
    canvas = np.tile(_border(pixels), (height, width, 1))
    left, top = max(0, width - inner.shape[1]) // 2, max(0, height - inner.shape[0]) // 2
    canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return Image.fromarray(canvas)


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """(h, w, 3) at another size by what it is: labels by the nearest one; lines of one pixel thinned again; other maps
    of two colours divided again; the rest smoothly."""
    if pixels.shape[:2] == (height, width):
        return pixels
    colours = _colours(pixels)
    is_smaller = width * height < pixels.shape[0] * pixels.shape[1]
    how = "nearest" if 2 < colours < FEW else "area" if is_smaller else "cubic"
    larger = resize(pixels, width, height, how)
    if colours != 2 or pixels.min() >= BLACK or pixels.max() <= WHITE:
        return larger
    values = larger.mean(2).astype(np.uint8)
    if not _is_of_lines(pixels):
        return grey(_divided(values))
    crests = ridges(values.astype(np.float64)).astype(np.uint8)
    return grey(np.where(thinned(_divided(crests) > 0), 255, 0).astype(np.uint8))


def sized_hint(
    maker: Ready, image: Image.Image, size: Size, how: Resize, resolution: int, options: Mapping[str, float]
) -> Image.Image:
    """The hint of an image at a size (width, height). resolution: of what the annotator sees; with 0 it sees the whole
    image at the scale at which the hint is read, so that lines are as fine as can be. One whose frame is "own" sees the
    image as it is: between two labels, or on both sides of a line, there is nothing that a filter could make."""
    if not resolution and maker.spec.frame != "own":
        image = Image.fromarray(at_scale(on_white(image), _scale(image.size, size, how)))
    return fitted(maker.hint(image, resolution=resolution or None, options=options), *size, how)


def _scale(image: Size, size: Size, how: Resize) -> float:
    """A1111's "pixel perfect", by which the short side is a whole number of pixels; less for an image that would be too
    large, being narrow."""
    scales = size[0] / image[0], size[1] / image[1]
    scale, short = min(scales) if how == "fill" else max(scales), min(image)
    most = (MOST_PIXELS / (image[0] * image[1])) ** 0.5
    return min(max(1, round(scale * short)) / short, most)


def numbers(hint: Image.Image, mask: Image.Image | None = None) -> NDArray[np.float32]:
    """A hint as networks read it: (h, w, 3), 0 to 1. Where a mask (L) of its size is white it is -1, the sign by which
    inpainting networks know what they are to make."""
    values: NDArray[np.float32] = np.asarray(hint.convert("RGB"), np.float32) / np.float32(255)
    if mask is None:
        return values
    is_hidden = np.asarray(mask) > 127
    values[is_hidden] = HIDDEN
    return values


def _divided(values: Pixels) -> Pixels:
    return np.where(values > otsu(values), 255, 0).astype(np.uint8)


def _colours(pixels: Pixels) -> int:
    whole = pixels.astype(np.uint32)
    return len(np.unique(whole[..., 0] << 16 | whole[..., 1] << 8 | whole[..., 2]))


def _is_of_lines(pixels: Pixels) -> bool:
    """Whether most of what is white is no wider than two pixels."""
    mask = pixels.max(2) > 127
    return int((mask & ~opened(mask)).sum()) * 2 > int(mask.sum())


def _border(pixels: Pixels) -> Pixels:
    """The median of the outermost pixels, (3,)."""
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return np.median(np.concatenate(edges), axis=0).clip(0, 255).astype(np.uint8)
