"""Words beside images, on pages of many: lines of text in whatever script an installed font has."""

from __future__ import annotations

import functools
import io
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

MARGIN = 6
PAPER, INK = (250, 250, 250), (30, 30, 30)
SMALLEST_SHOWN = 128
"""Smaller images are enlarged by a whole factor to at least this width in pixels, so that captions fit beneath."""
POINTS = 11
WIDE = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf",
    "wqy-microhei.ttc",
    "unifont.ttf",
)
"""Fonts of many scripts as systems call them, tried in this order; Pillow's own has ASCII alone."""
NO_CHARACTER = "\uffff"
"""Drawn as the box that a font has in place of what it lacks."""
UNKNOWN = "?"

Font = ImageFont.FreeTypeFont
Run = tuple[Font, str]


def font_folders() -> tuple[Path, ...]:
    """Where fonts are looked for, the system's folders first; a user without a home has none of their own."""
    own: tuple[Path, ...] = ()
    with suppress(RuntimeError):
        own = tuple(Path.home() / name for name in (".local/share/fonts", ".fonts", "Library/Fonts"))
    return (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path("/Library/Fonts"), *own)


def enlarged(image: Image.Image) -> Image.Image:
    """In RGB, at least SMALLEST_SHOWN pixels wide."""
    factor = max(1, -(-SMALLEST_SHOWN // image.width))
    return image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


@functools.cache
def fonts() -> tuple[Font, ...]:
    """Pillow's own font, then the installed ones of WIDE."""
    own = ImageFont.load_default(POINTS)
    assert isinstance(own, Font)
    paths = {path.name: path for folder in font_folders() for path in _in(folder)}
    opened = [own]
    for name in (name for name in WIDE if name in paths):
        with suppress(OSError):  # a broken file is as good as none
            opened.append(ImageFont.truetype(io.BytesIO(paths[name].read_bytes()), POINTS))
    return tuple(opened)


def wrapped(text: str, width: int) -> Iterator[str]:
    """Words in lines of at most `width` pixels; a longer word is cut into several. One empty line for no words."""
    line = ""
    for word in _words(text, width):
        longer = f"{line} {word}".strip()
        if line and length(longer) > width:
            yield line
            line = word
        else:
            line = longer
    yield line


def length(text: str) -> float:
    """In pixels."""
    return sum(font.getlength(run) for font, run in runs(text))


def line_height() -> int:
    """From one line to the next, in pixels."""
    return max(sum(font.getmetrics()) for font in fonts()) + 1


def write(draw: ImageDraw.ImageDraw, left: float, top: float, text: str, ink: tuple[int, int, int]) -> None:
    """Writes a line whose highest letters begin at `top`."""
    base = top + max(font.getmetrics()[0] for font in fonts())
    for font, run in runs(text):
        draw.text((left, base), run, fill=ink, font=font, anchor="ls")
        left += font.getlength(run)


def runs(text: str) -> Iterator[Run]:
    """The text, each piece in the first font that has its letters. Letters that none has lose their accents, and are
    question marks where that does not help."""
    for font, letters in groupby(map(drawable, text), key=lambda pair: pair[0]):
        yield font, "".join(letter for _, letter in letters)


@functools.cache
def drawable(letter: str) -> Run:
    """What is drawn for a letter, and in which font."""
    for candidate in (letter, unicodedata.normalize("NFKD", letter)[0]):
        for font in fonts():
            if _has(font, candidate):
                return font, candidate
    return fonts()[0], UNKNOWN


def _has(font: Font, letter: str) -> bool:
    return _drawn(font, letter) != _drawn(font, NO_CHARACTER)


def _drawn(font: Font, letter: str) -> bytes:
    image = Image.new("L", (3 * POINTS, 3 * POINTS))
    ImageDraw.Draw(image).text((POINTS, POINTS), letter, fill=255, font=font)
    return image.tobytes()


def _in(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*.tt[fc]")) if path.name in WIDE)


def _words(text: str, width: int) -> Iterator[str]:
    """The words; one that is wider than `width` pixels in pieces, as some scripts have no spaces."""
    for word in text.split():
        start = 0
        for end in range(1, len(word)):
            if length(word[start : end + 1]) > width:
                yield word[start:end]
                start = end
        yield word[start:]
