"""Hints of maps that the user brings: normals of a depth map, colours of a map of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, OptionSpec

if TYPE_CHECKING:
    from atelier.vision.annotating import Pixels


def normals_of(pixels: Pixels, asked: Asked) -> Pixels:
    """Depths are the mean of the channels, 0 to 255, near is bright."""
    from atelier.vision.arrays.tones import normals

    return normals(pixels.mean(2), asked.options["background"])


def coloured(pixels: Pixels, _: Asked) -> Pixels:
    """Labels are the values of the first channel."""
    from atelier.vision.palette import in_colours

    return in_colours(pixels[..., 0])


SPECS = (
    Annotator(
        "normal_from_depth",
        "Surface normals from a depth map (near is bright), for ControlNet 1.0's normal model.",
        normals_of,
        options=(OptionSpec("background", 0.4, 0, 1, 0.01, "What is further than this share is flat."),),
    ),
    Annotator(
        "seg_labels",
        "ADE20K's colours for a map whose grey values are labels, 0 (wall) to 149 (flag).",
        coloured,
        frame="own",
    ),
)
