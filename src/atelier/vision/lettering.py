"""Words beside images, on pages of many."""

from __future__ import annotations

from functools import cache

from PIL import Image, ImageDraw, ImageFont

MARGIN = 6
POINTS = 11
SPACING = 2
PAPER, INK = (250, 250, 250), (30, 30, 30)
SMALLEST_SHOWN = 128
"""Smaller images are enlarged by a whole factor to at least this width in pixels, so that captions fit beneath."""


@cache
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(POINTS)


def enlarged(image: Image.Image) -> Image.Image:
    """In RGB, at least SMALLEST_SHOWN pixels wide."""
    factor = max(1, -(-SMALLEST_SHOWN // image.width))
    return image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def wrapped(text: str, width: int) -> str:
    """Words in lines of at most `width` pixels; a longer word is cut into several."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font().getlength(longer) <= width:
            lines[-1] = longer
            continue
        *full, rest = _cut(word, width)
        lines += [*full, rest]
    return "\n".join(lines[1:] if len(lines) > 1 and not lines[0] else lines)


def height_of(text: str) -> int:
    """Pixels from the top of the first line to the bottom of the last."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return int(draw.multiline_textbbox((0, 0), text, font=font(), spacing=SPACING)[3])


def _cut(word: str, width: int) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and font().getlength(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces
