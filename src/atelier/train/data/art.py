"""The art of the emoji scenes: glyphs of Noto Color Emoji as images with transparency."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from atelier.errors import BadInput
from atelier.vision.lettering import font_folders

FONT = "NotoColorEmoji.ttf"
PACKAGE = "fonts-noto-color-emoji"
STRIKE = 109
"""The only size, in pixels per em, at which the font's bitmaps can be opened; they are 136x128 pixels."""


@functools.cache
def font_path() -> Path:
    """The file of Noto Color Emoji. Raises BadInput with the name of the Debian package when it is not installed."""
    for folder in font_folders():
        for path in sorted(folder.rglob(FONT)):
            return path
    searched = ", ".join(str(f) for f in font_folders())
    raise BadInput(f"font {FONT} not found in {searched}: install it, on Debian with `apt-get install {PACKAGE}`")


@functools.cache
def _font(path: Path) -> ImageFont.FreeTypeFont:
    """Opened from its bytes: given a name, Pillow would replace a broken file by any other font of that name."""
    try:
        return ImageFont.truetype(io.BytesIO(path.read_bytes()), STRIKE, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise BadInput(f"{path}: no bitmap emoji font ({error}): install {PACKAGE} again") from error


def glyph(emoji: str, font: Path | None = None) -> Image.Image:
    """The image of `emoji` cut to its visible part: mode RGBa (colours premultiplied by alpha), at most 136x128.

    Raises BadInput when the font has no such glyph.
    """
    path = font or font_path()
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((8, 8), emoji[0], font=_font(path), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise BadInput(f"{path}: no glyph for {emoji!r} (U+{ord(emoji[0]):04X}): install a newer {PACKAGE}")
    return canvas.crop(box).convert("RGBa")


@functools.cache
def _glyph(emoji: str) -> Image.Image:
    return glyph(emoji)


@functools.lru_cache(maxsize=8192)
def sprite(emoji: str, pixels: int) -> NDArray[np.uint8]:
    """`emoji` with its longer side `pixels` long: uint8 (h, w, 4), premultiplied RGB and alpha. Cached, read-only."""
    drawn = _glyph(emoji)
    ratio = pixels / max(drawn.size)
    width, height = (max(1, round(side * ratio)) for side in drawn.size)
    small = np.array(drawn.resize((width, height), Image.Resampling.LANCZOS))
    np.minimum(small[..., :3], small[..., 3:], out=small[..., :3])
    small.flags.writeable = False
    return small
