"""How near what an image shows is, by networks that transformers reads, and the normals of that surface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile, OptionSpec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from atelier.vision.annotating import Pixels

    Finish = Callable[[NDArray[np.float64], Mapping[str, float]], Pixels]

MIDAS = ("dpt-hybrid-midas", "dpt-large")
ANYTHING = (
    "Depth-Anything-V2-Small-hf",
    "Depth-Anything-V2-Base-hf",
    "Depth-Anything-V2-Large-hf",
    "depth-anything-small-hf",
    "depth-anything-base-hf",
    "depth-anything-large-hf",
)
"""Folders as they are called where they are published."""


def near(depths: NDArray[np.float64], _: Mapping[str, float]) -> Pixels:
    """From the furthest to the nearest, black to white."""
    from atelier.vision.arrays.tones import cut, grey, stretched

    return grey(cut(stretched(depths) * 255))


def surface(depths: NDArray[np.float64], options: Mapping[str, float]) -> Pixels:
    from atelier.vision.arrays.tones import normals

    return normals(depths, options["background"])


def load(finish: Finish, path: Path, device: torch.device) -> Drawer:
    """Raises BadFile, and BadInput where transformers is not installed."""
    from PIL.Image import fromarray

    from atelier.vision.depth import open_any_estimator

    estimator = open_any_estimator(path, device)

    def draw(pixels: Pixels, asked: Asked) -> Pixels:
        import torch.nn.functional as F

        depths = estimator.depths(fromarray(pixels))
        full = F.interpolate(depths, size=pixels.shape[:2], mode="bicubic", align_corners=False)
        return finish(full[0, 0].double().numpy(), asked.options)

    return Drawer(draw, (estimator.net,))


SPECS = (
    Annotator(
        "depth_midas",
        "Depth by MiDaS (DPT), near is bright.",
        NeedsFile(partial(load, near), MIDAS),
        ("depth", "MidasDetector", "depth_dpt"),
        frame="sized",
    ),
    Annotator(
        "depth_anything",
        "Depth by Depth Anything, near is bright.",
        NeedsFile(partial(load, near), ANYTHING),
        ("depth_anything_v2",),
        frame="sized",
    ),
    Annotator(
        "normal_midas",
        "Surface normals by MiDaS, for ControlNet 1.0's normal model.",
        NeedsFile(partial(load, surface), MIDAS),
        ("normal_map",),
        (OptionSpec("background", 0.4, 0, 1, 0.01, "What is further than this share is flat."),),
        frame="sized",
    ),
)
