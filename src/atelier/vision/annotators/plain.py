"""Images that are hints as they are, and inverted ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked

if TYPE_CHECKING:
    from atelier.vision.annotating import Pixels


def same(pixels: Pixels, _: Asked) -> Pixels:
    return pixels


def inverted(pixels: Pixels, _: Asked) -> Pixels:
    return 255 - pixels


SPECS = (
    Annotator("none", "The image is a hint already.", same, frame="own"),
    Annotator(
        "inpaint_only",
        "The image; its masked area is removed before the network reads it.",
        same,
        ("inpaint", "inpaint_global_harmonious"),
        frame="own",
    ),
    Annotator(
        "invert",
        "The negative of an image: makes a hint from black lines on white.",
        inverted,
        ("invert (from white bg & black line)",),
        frame="own",
    ),
)
