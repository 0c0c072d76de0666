"""How an image comes to another size. The rules are A1111's: docs/compatibility/img2img.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from PIL import Image

from atelier.errors import BadInput

Resize = Literal["stretch", "crop", "fill"]
LANCZOS = Image.Resampling.LANCZOS
MOST_PIXELS = 2**28
"""Of an image that covers another size, before what hangs over is cut off."""


def resized(image: Image.Image, width: int, height: int, how: Resize) -> Image.Image:
    """`image` at width x height pixels.

    stretch: its sides change as they must. crop: it covers the whole, and what hangs over is cut off evenly. fill: it
    fits in, and its outermost rows or columns go on to the edge.
    """
    if image.size == (width, height):
        return image
    check_proportions(image.size, width, height, covers=how == "crop")
    if how == "stretch":
        return image.resize((width, height), LANCZOS)
    inner = image.resize(_inner(image.size, width, height, covers=how == "crop"), LANCZOS)
    left, top = width // 2 - inner.width // 2, height // 2 - inner.height // 2
    canvas = Image.new(image.mode, (width, height))
    if how == "fill":
        _extend(canvas, inner, left, top)
    canvas.paste(inner, (left, top))
    return canvas


def moved(
    points: Sequence[tuple[float, float]], size: tuple[int, int], width: int, height: int, how: Resize
) -> list[tuple[float, float]]:
    """Where points (x, y) of an image of a size come to when `resized` brings it to width x height."""
    if how == "stretch":
        inner = width, height
    else:
        check_proportions(size, width, height, covers=how == "crop")
        inner = _inner(size, width, height, covers=how == "crop")
    left, top = width // 2 - inner[0] // 2, height // 2 - inner[1] // 2
    return [(x * inner[0] / size[0] + left, y * inner[1] / size[1] + top) for x, y in points]


def check_proportions(size: tuple[int, int], width: int, height: int, *, covers: bool) -> None:
    """Raises BadInput for an image so narrow that it would take gigabytes to let it cover width x height."""
    across, down = size
    scale = max(width / across, height / down)
    if covers and across * scale * down * scale > MOST_PIXELS:
        raise BadInput(f"an image of {across}x{down} cannot cover {width}x{height}: cut it, or stretch or fill")


def _inner(size: tuple[int, int], width: int, height: int, *, covers: bool) -> tuple[int, int]:
    """The size of an image that keeps its proportions and covers width x height, or else fits into it."""
    across, down = size
    is_wider = width * down > height * across
    if is_wider == covers:
        return width, max(1, down * width // across)
    return max(1, across * height // down), height


def _extend(canvas: Image.Image, inner: Image.Image, left: int, top: int) -> None:
    """Fills what `inner` leaves of the canvas with its outermost rows or columns."""
    right, bottom = left + inner.width, top + inner.height
    if top > 0:
        canvas.paste(inner.crop((0, 0, inner.width, 1)).resize((inner.width, top)), (left, 0))
    if bottom < canvas.height:
        last = inner.crop((0, inner.height - 1, inner.width, inner.height))
        canvas.paste(last.resize((inner.width, canvas.height - bottom)), (left, bottom))
    if left > 0:
        canvas.paste(inner.crop((0, 0, 1, inner.height)).resize((left, inner.height)), (0, top))
    if right < canvas.width:
        last = inner.crop((inner.width - 1, 0, inner.width, inner.height))
        canvas.paste(last.resize((canvas.width - right, inner.height)), (right, top))
