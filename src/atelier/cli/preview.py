"""Images in a terminal: kitty's and iTerm2's protocols, and coloured half blocks where there is neither.

Sources: https://sw.kovidgoyal.net/kitty/graphics-protocol/, https://iterm2.com/documentation-images.html
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from PIL.Image import Image

Draw = Callable[["Image", int, int], str]
"""(image, columns, rows) -> what to write so that it appears at the cursor and below; the cursor's row may change."""

KITTY_CHUNK = 4096
IMAGE_ID = 7


def native(environment: Mapping[str, str]) -> Draw | None:
    """How this terminal draws images; None if it has no way that its environment tells of."""
    if environment.get("TMUX") or environment.get("STY"):
        return None
    program, term = environment.get("TERM_PROGRAM", ""), environment.get("TERM", "")
    if "kitty" in term or "ghostty" in term or program == "ghostty" or "KITTY_WINDOW_ID" in environment:
        return kitty
    if program in {"iTerm.app", "WezTerm", "mintty"} or environment.get("LC_TERMINAL") == "iTerm2":
        return iterm2
    return None


def kitty(image: Image, columns: int, rows: int) -> str:
    """The image under one fixed id, so that each replaces the one before; the terminal answers nothing."""
    data = base64.standard_b64encode(_png(image)).decode()
    chunks = [data[i : i + KITTY_CHUNK] for i in range(0, len(data), KITTY_CHUNK)]
    first = f"a=T,f=100,i={IMAGE_ID},p=1,q=2,C=1,c={columns},r={rows},"
    return "".join(
        f"\x1b_G{first if i == 0 else ''}m={int(i < len(chunks) - 1)};{chunk}\x1b\\" for i, chunk in enumerate(chunks)
    )


def iterm2(image: Image, columns: int, rows: int) -> str:
    """The image as an inline file, scaled to the cells."""
    png = _png(image)
    data = base64.standard_b64encode(png).decode()
    size = f"size={len(png)};width={columns};height={rows}"
    return f"\x1b]1337;File=inline=1;{size};preserveAspectRatio=0:{data}\x07"


def half_blocks(image: Image, columns: int, rows: int) -> str:
    """Two pixels a cell: the upper half block's colour and the one behind it. Needs 24-bit colour."""
    small = image.convert("RGB").resize((columns, 2 * rows))
    return f"\x1b[1B\x1b[{columns}D".join(f"{''.join(_cells(small, row))}\x1b[0m" for row in range(rows))


def _cells(image: Image, row: int) -> Iterator[str]:
    for column in range(image.width):
        above, below = (_rgb(image, column, 2 * row + half) for half in (0, 1))
        yield f"\x1b[38;2;{above};48;2;{below}m▀"


def _rgb(image: Image, x: int, y: int) -> str:
    return ";".join(str(value) for value in cast("tuple[int, int, int]", image.getpixel((x, y))))


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
