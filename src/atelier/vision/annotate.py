"""Finding annotators, and running one on an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import atelier.vision.annotators
from atelier.errors import BadInput, nearest
from atelier.registry import discover, resolve
from atelier.request.controls import RESOLUTIONS
from atelier.vision.annotating import Annotator, Asked, NeedsFile

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import nn

    from atelier.vision.annotating import Draw, Pixels

MOST_PIXELS = 33_554_432
"""Of an image brought to a resolution: 8192 x 4096."""
MULTIPLE = 64
NO_OPTIONS: Mapping[str, float] = MappingProxyType({})
Find = Callable[[str], Path | None]
"""The path of a file by what it is called where it is published; None where it is not here."""
FOLDER = "annotators"
"""Below a folder of models: where files of annotators go."""


@cache
def annotators() -> Mapping[str, Annotator]:
    """All of them, by name."""
    return discover(atelier.vision.annotators, Annotator)


def annotator(name: str) -> Annotator:
    """By its name, A1111's or controlnet_aux's. Raises UnknownName with the nearest names."""
    return resolve(annotators(), "annotator", name)


@dataclass(frozen=True, slots=True)
class Ready:
    """An annotator with its file read, if it needs one. nets, bytes: as those of a `Drawer`."""

    spec: Annotator
    draw: Draw
    nets: tuple[nn.Module, ...] = ()
    bytes: int = 0

    def hint(
        self, image: Image, *, resolution: int | None = None, options: Mapping[str, float] = NO_OPTIONS, seed: int = 0
    ) -> Image:
        """The hint of an image, RGB, at the size that it was drawn at; `hints.fitted` brings it to that of a request.

        Transparency lies on white. resolution: what the short side is brought to before, 64 to 2048; None leaves the
        image at its size. Annotators whose frame is "own" have no use for it. seed: for those that draw lots. Raises
        BadInput for a resolution or an option that cannot be.
        """
        import numpy as np
        from PIL.Image import fromarray

        asked = Asked(completed(self.spec, options), np.random.default_rng(seed))
        pixels = on_white(image)
        if self.spec.frame == "own":
            return fromarray(self.draw(pixels, asked))
        pixels = pixels if resolution is None else at_resolution(pixels, resolution)
        if self.spec.frame == "sized":
            return fromarray(self.draw(pixels, asked))
        height, width = pixels.shape[:2]
        return fromarray(np.ascontiguousarray(self.draw(padded(pixels), asked)[:height, :width]))


def ready(spec: Annotator, find: Find, device: torch.device) -> Ready:
    """Reads the file of an annotator that needs one. Raises BadInput where it is not there, BadFile for a wrong one."""
    if not isinstance(spec.draw, NeedsFile):
        return Ready(spec, spec.draw)
    path = next((path for path in map(find, spec.draw.files) if path is not None), None)
    if path is None:
        told = f"annotator {spec.name}: its file {spec.draw.files[0]} is not there"
        raise BadInput(f"{told}: put it into the folder {FOLDER} of a folder of models")
    check_beside(spec, path)
    drawer = spec.draw.load(path, device)
    return Ready(spec, drawer.draw, drawer.nets, drawer.bytes)


def check_beside(spec: Annotator, path: Path) -> None:
    """Raises BadInput where a file is not there that has to lie beside the one of an annotator."""
    lacking = spec.draw.lacking(path) if isinstance(spec.draw, NeedsFile) else None
    if lacking is not None:
        raise BadInput(f"annotator {spec.name}: {lacking} is not there: put it beside {path.name}")


def completed(spec: Annotator, given: Mapping[str, float]) -> dict[str, float]:
    """All options of an annotator. Raises BadInput for one that it does not have, or out of range."""
    known = {option.name: option for option in spec.options}
    for name, value in given.items():
        if name not in known:
            told = f"annotator {spec.name}: there is no option {name!r}"
            raise BadInput(f"{told}: {nearest(name, tuple(known))}" if known else f"{told}: it has none")
        if not known[name].low <= value <= known[name].high:
            allowed = f"{known[name].low:g} to {known[name].high:g}"
            raise BadInput(f"annotator {spec.name}: {name} is {value:g}, and {allowed} can be used")
    return {name: given.get(name, option.default) for name, option in known.items()}


def on_white(image: Image) -> Pixels:
    """(h, w, 3) of an image of any mode, what is transparent on white; fractions are cut off, as others do."""
    import numpy as np

    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    layers = np.asarray(image.convert("RGBA"), np.float32)
    alpha = layers[..., 3:] / np.float32(255)
    return (layers[..., :3] * alpha + 255 * (1 - alpha)).clip(0, 255).astype(np.uint8)


def at_resolution(pixels: Pixels, resolution: int) -> Pixels:
    """With the short side at `resolution`, the other in proportion. Raises BadInput for what would be too large."""
    height, width = pixels.shape[:2]
    low, high = RESOLUTIONS
    if not low <= resolution <= high:
        raise BadInput(f"resolution {resolution}: it can be {low} to {high}")
    scale = resolution / min(height, width)
    new_height, new_width = round(height * scale), round(width * scale)
    if new_height * new_width > MOST_PIXELS:
        raise BadInput(f"resolution {resolution}: the image would have {new_width}x{new_height} pixels; choose a lower")
    return at_scale(pixels, scale)


def at_scale(pixels: Pixels, scale: float) -> Pixels:
    """So many times as large: smoothly where that is more, by the mean of what a pixel covers where it is less."""
    from atelier.vision.arrays.resample import resize

    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return resize(pixels, width, height, "cubic" if scale > 1 else "area")


def padded(pixels: Pixels) -> Pixels:
    """With the last row and column repeated until the sides are multiples of 64."""
    import numpy as np

    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)), mode="edge")
