"""Contact sheets: many images on one page, each with its caption beneath."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from atelier.vision.lettering import INK, MARGIN, PAPER, enlarged, line_height, wrapped, write

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
    return enlarged(image if isinstance(image, Image.Image) else Image.fromarray(image))


def _wrapped(caption: str, width: int) -> list[str]:
    lines = list(islice(wrapped(caption, width), MOST_LINES + 1))
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "..."]
