"""Contact sheets: many images on one page, each with its caption beneath."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

MARGIN = 6
CAPTION_POINTS = 11
PAPER, INK = (250, 250, 250), (30, 30, 30)
SMALLEST_SHOWN = 128
"""Smaller images are enlarged by a whole factor to at least this width in pixels, so that captions fit beneath."""


def sheet(images: Sequence[NDArray[np.uint8] | Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """A page of `images` (uint8 RGB (H, W, 3) or Pillow images, all of one size) in rows of `columns`.

    One caption each, wrapped to the width of its image. Raises ValueError for no images, columns < 1 or counts that
    differ.
    """
    if not images or columns < 1 or len(images) != len(captions):
        raise ValueError(f"{len(images)} images, {len(captions)} captions, {columns} columns")
    tiles = [_shown(image) for image in images]
    width, height = tiles[0].size
    font = ImageFont.load_default(CAPTION_POINTS)
    texts = ["\n".join(_wrapped(caption, width, font)) for caption in captions]
    columns = min(columns, len(tiles))
    cell_width, cell_height = width + MARGIN, height + _lines_height(texts, font) + MARGIN
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * cell_width + MARGIN, rows * cell_height + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    for number, (tile, text) in enumerate(zip(tiles, texts, strict=True)):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * cell_width, MARGIN + row * cell_height
        page.paste(tile, (left, top))
        draw.multiline_text((left, top + height + 2), text, fill=INK, font=font, spacing=2)
    return page


def _shown(image: NDArray[np.uint8] | Image.Image) -> Image.Image:
    tile = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")
    factor = max(1, -(-SMALLEST_SHOWN // tile.width))
    return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)


def _wrapped(caption: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _lines_height(texts: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return max(int(draw.multiline_textbbox((0, 0), text, font=font, spacing=2)[3]) for text in texts) + 4
