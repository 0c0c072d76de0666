"""A page of images in rows and columns, with words above the columns and beside the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from atelier.vision.lettering import INK, MARGIN, PAPER, SPACING, enlarged, font, height_of, wrapped

MAX_PIXELS = 200_000_000
"""Of a page."""
ROW_WIDTH = 140
"""Pixels at most for the words beside a row."""

Place = tuple[int, int]
"""(column, row)"""


@dataclass(frozen=True, slots=True)
class Labels:
    """above: of each column; beside: of each row; title: of the page. An empty text takes no room."""

    above: Sequence[str]
    beside: Sequence[str]
    title: str = ""


def labelled(images: Mapping[Place, Image.Image], labels: Labels) -> Image.Image:
    """The page. Each image stands at the top left of its cell, which is as large as the largest image; where there is
    none the paper stays."""
    shown = {place: enlarged(image) for place, image in images.items()}
    cell = (max(image.width for image in shown.values()), max(image.height for image in shown.values()))
    tallest = max(height_of(wrapped(text, ROW_WIDTH)) for text in labels.beside)
    layout = _layout(labels, (cell[0], max(cell[1], tallest)))
    page = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(page)
    for (column, row), image in shown.items():
        page.paste(image, layout.corner(column, row))
    for where, text in layout.words:
        draw.multiline_text(where, text, fill=INK, font=font(), spacing=SPACING)
    return page


def page_pixels(columns: int, rows: int, largest: tuple[int, int]) -> int:
    """About how many pixels a page of images of this size has."""
    return columns * rows * (largest[0] + MARGIN) * (largest[1] + MARGIN)


@dataclass(frozen=True, slots=True)
class _Layout:
    """left, top: of the first image; cell: of the images; words: (where, what) is written."""

    left: int
    top: int
    cell: tuple[int, int]
    size: tuple[int, int]
    words: tuple[tuple[tuple[int, int], str], ...]

    def corner(self, column: int, row: int) -> tuple[int, int]:
        return self.left + column * (self.cell[0] + MARGIN), self.top + row * (self.cell[1] + MARGIN)


def _layout(labels: Labels, cell: tuple[int, int]) -> _Layout:
    beside = [wrapped(text, ROW_WIDTH) for text in labels.beside]
    left = MARGIN + max((_width(text) for text in beside), default=0)
    above = [wrapped(text, cell[0]) for text in labels.above]
    width = left + len(above) * (cell[0] + MARGIN)
    title = wrapped(labels.title, width - 2 * MARGIN)
    below = MARGIN + _room(title)
    top = below + max(_room(text) for text in above)
    bare = _Layout(left, top, cell, (width, top + len(beside) * (cell[1] + MARGIN)), ())
    words = [((MARGIN, MARGIN), title)]
    words += [((bare.corner(column, 0)[0], below), text) for column, text in enumerate(above)]
    words += [((MARGIN, bare.corner(0, row)[1]), text) for row, text in enumerate(beside)]
    return _Layout(left, top, cell, bare.size, tuple(word for word in words if word[1]))


def _width(text: str) -> int:
    """With a margin behind; nothing for no text."""
    return int(max(font().getlength(line) for line in text.split("\n"))) + 1 + MARGIN if text else 0


def _room(text: str) -> int:
    """Height with a margin below; nothing for no text."""
    return height_of(text) + MARGIN if text else 0
