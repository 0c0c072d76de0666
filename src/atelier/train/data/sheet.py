"""Contact sheets: many images on one page, each with its caption beneath."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from atelier.train.data.lettering import length, line_height, write

MARGIN = 6
PAPER, INK = (250, 250, 250), (30, 30, 30)
SMALLEST_SHOWN = 128
"""Smaller images are enlarged by a whole factor to at least this width in pixels, so that captions fit beneath."""
MOST_LINES = 16
"""Of a caption; the rest is left out, which three dots say."""


def sheet(images: Sequence[NDArray[np.uint8] | Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """A page of `images` (uint8 RGB (H, W, 3) or Pillow images, all of one size) in rows of `columns`.

    One caption each, wrapped to the width of its image. Raises ValueError for no images, columns < 1 or counts that
    differ.
    """
    if not images or columns < 1 or len(images) != len(captions):
        raise ValueError(f"{len(images)} images, {len(captions)} captions, {columns} columns")
    tiles = [_shown(image) for image in images]
    width, height = tiles[0].size
    texts = [_wrapped(caption, width) for caption in captions]
    columns = min(columns, len(tiles))
    cell_width, cell_height = width + MARGIN, height + 4 + max(map(len, texts)) * line_height() + MARGIN
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * cell_width + MARGIN, rows * cell_height + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    for number, (tile, text) in enumerate(zip(tiles, texts, strict=True)):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * cell_width, MARGIN + row * cell_height
        page.paste(tile, (left, top))
        for line, words in enumerate(text):
            write(draw, left, top + height + 2 + line * line_height(), words, INK)
    return page


def _shown(image: NDArray[np.uint8] | Image.Image) -> Image.Image:
    tile = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")
    factor = max(1, -(-SMALLEST_SHOWN // tile.width))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)


def _wrapped(caption: str, width: int) -> list[str]:
    lines = [""]
    for word in _words(caption, width):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
        if len(lines) > MOST_LINES:
            return [*lines[: MOST_LINES - 1], "..."]
    return lines


def _words(caption: str, width: int) -> Iterator[str]:
    """The words; one that is wider than `width` pixels in pieces, as some scripts have no spaces."""
    for word in caption.split():
        start = 0
        for end in range(1, len(word)):
            if length(word[start : end + 1]) > width:
                yield word[start:end]
                start = end
        yield word[start:]
