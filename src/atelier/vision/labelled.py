"""A page of images in rows and columns, with words above the columns and beside the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from atelier.vision.lettering import INK, MARGIN, PAPER, enlarged, length, line_height, wrapped, write

MAX_PIXELS = 200_000_000
"""Of a page."""
ROW_WIDTH = 140
"""Pixels at most for the words beside a row."""

Place = tuple[int, int]
"""(column, row)"""
Lines = list[str]
"""Of a text; none of an empty one."""


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
    tallest = max(_height(_lines(text, ROW_WIDTH)) for text in labels.beside)
    layout = _layout(labels, (cell[0], max(cell[1], tallest)))
    page = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(page)
    for (column, row), image in shown.items():
        page.paste(image, layout.corner(column, row))
    for (left, top), lines in layout.words:
        for number, line in enumerate(lines):
            write(draw, left, top + number * line_height(), line, INK)
    return page


def page_pixels(columns: int, rows: int, largest: tuple[int, int]) -> int:
    """About how many pixels a page of images of this size has."""
    return columns * rows * (largest[0] + MARGIN) * (largest[1] + MARGIN)


@dataclass(frozen=True, slots=True)
class _Layout:
    """left, top: of the first image; cell: of the images; words: where lines begin, and they."""

    left: int
    top: int
    cell: tuple[int, int]
    size: tuple[int, int]
    words: tuple[tuple[tuple[int, int], Lines], ...]

    def corner(self, column: int, row: int) -> tuple[int, int]:
        return self.left + column * (self.cell[0] + MARGIN), self.top + row * (self.cell[1] + MARGIN)


def _layout(labels: Labels, cell: tuple[int, int]) -> _Layout:
    beside = [_lines(text, ROW_WIDTH) for text in labels.beside]
    left = MARGIN + max((_width(text) for text in beside), default=0)
    above = [_lines(text, cell[0]) for text in labels.above]
    width = left + len(above) * (cell[0] + MARGIN)
    title = _lines(labels.title, width - 2 * MARGIN)
    below = MARGIN + _room(title)
    top = below + max(_room(text) for text in above)
    bare = _Layout(left, top, cell, (width, top + len(beside) * (cell[1] + MARGIN)), ())
    words: list[tuple[tuple[int, int], Lines]] = [((MARGIN, MARGIN), title)]
    words += [((bare.corner(column, 0)[0], below), text) for column, text in enumerate(above)]
    words += [((MARGIN, bare.corner(0, row)[1]), text) for row, text in enumerate(beside)]
    return _Layout(left, top, cell, bare.size, tuple(word for word in words if word[1]))


def _lines(text: str, width: int) -> Lines:
    return list(wrapped(text, width)) if text.strip() else []


def _width(lines: Lines) -> int:
    """With a margin behind; nothing for no text."""
    return int(max(map(length, lines))) + 1 + MARGIN if lines else 0


def _height(lines: Lines) -> int:
    return len(lines) * line_height()


def _room(lines: Lines) -> int:
    """Height with a margin below; nothing for no text."""
    return _height(lines) + MARGIN if lines else 0
