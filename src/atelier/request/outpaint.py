"""Growing the canvas: what `--outpaint` says, and in which passes it is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from atelier.errors import BadInput
from atelier.request.fields import PIXELS

SIDES = ("left", "right", "top", "bottom")
_FRAME = re.compile(r"(\d{1,9})x(\d{1,9})")
_MARGIN = re.compile(r"([a-z]+)\s*=\s*(\d{1,9})")
EXAMPLES = "write left=64,right=64,top=32,bottom=32, or the size of the frame, 768x512"


class Margins(NamedTuple):
    """Pixels around an image."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def around(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size of the canvas, (width, height)."""
        return size[0] + self.left + self.right, size[1] + self.top + self.bottom

    def __str__(self) -> str:
        return ",".join(f"{name}={side}" for name, side in zip(SIDES, self, strict=True) if side)


def margins(text: str, size: tuple[int, int], step: int) -> Margins:
    """What a text asks for around an image of `size`; what lacks to multiples of `step` is shared out.

    Raises BadInput for a text that says nothing of the kind, or a canvas that is no larger or too large.
    """
    frame = _FRAME.fullmatch(text.strip())
    wanted = _sides(text) if frame is None else _centred(text, (int(frame[1]), int(frame[2])), size)
    if not any(wanted):
        raise BadInput(f"outpaint {text}: the canvas does not grow; {EXAMPLES}")
    left, right = _rounded(wanted.left, wanted.right, size[0], step)
    top, bottom = _rounded(wanted.top, wanted.bottom, size[1], step)
    found = Margins(left, right, top, bottom)
    if max(found.around(size)) > PIXELS.high:
        width, height = found.around(size)
        raise BadInput(f"outpaint {text}: the canvas would be {width}x{height}; a side has at most {PIXELS.high:g}")
    return found


def _sides(text: str) -> Margins:
    found: dict[str, int] = {}
    for part in text.split(","):
        margin = _MARGIN.fullmatch(part.strip())
        if margin is None or margin[1] not in SIDES or margin[1] in found:
            raise BadInput(f"outpaint {text!r}: {part.strip()!r} is no side, or there twice; {EXAMPLES}")
        found[margin[1]] = int(margin[2])
    return Margins(**found)


def _centred(text: str, frame: tuple[int, int], size: tuple[int, int]) -> Margins:
    across, down = frame[0] - size[0], frame[1] - size[1]
    if min(across, down) < 0:
        raise BadInput(f"outpaint {text}: the image has {size[0]}x{size[1]}, and the frame must hold it")
    return Margins(across // 2, across - across // 2, down // 2, down - down // 2)


def _rounded(before: int, after: int, side: int, step: int) -> tuple[int, int]:
    """Both margins so much larger that the side is a multiple of `step`; one that is 0 stays so if the other is not."""
    more = -(side + before + after) % step
    if before and after:
        return before + more // 2, after + more - more // 2
    return (before + more, after) if before else (before, after + more)


def passes(size: tuple[int, int], wanted: Margins, step: int) -> Iterator[Margins]:
    """What is added in each pass: no side more than the image has along it by then, and canvases of multiples of
    `step`, so that every pass sees as much of the image as it adds."""
    width, height = size
    left, right, top, bottom = wanted
    while left or right or top or bottom:
        across, down = _pass(left, right, width, step), _pass(top, bottom, height, step)
        yield Margins(*across, *down)
        left, right, top, bottom = left - across[0], right - across[1], top - down[0], bottom - down[1]
        width, height = width + sum(across), height + sum(down)


def _pass(before: int, after: int, side: int, step: int) -> tuple[int, int]:
    most = max(side, step)
    first, second = min(before, most), min(after, most)
    if (first, second) == (before, after):
        return first, second
    over = (side + first + second) % step
    return (first - over, second) if first >= over and first else (first, second - over)
