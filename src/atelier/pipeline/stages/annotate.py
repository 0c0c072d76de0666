"""Making a hint of an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.pipeline.lent import Lent
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.values import Hint, Key, Prepared, Values
from atelier.request.events import Event
from atelier.request.resolved import AllOver, ImageRef, MaskPlace, ModelRef, ResolvedControl, Size
from atelier.vision import masks
from atelier.vision.annotate import annotators, ready
from atelier.vision.geometry import resized
from atelier.vision.masks import Box


@dataclass(frozen=True, slots=True)
class Annotate(Stage):
    """Leaves what a control says at `size`, and where it acts, under `out`.

    whole: the size of the image that is generated, of which `window` is the part that this pass makes, None for all of
    it; source: where the image to start from is: where only a part of that is generated, so it is of an image of its
    size.
    """

    model: ModelRef
    control: ResolvedControl
    size: Size
    out: Key[Hint]
    whole: Size
    window: Box | None = None
    source: Key[Prepared] | None = None

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        control, factor = self.control, have.checkpoint(self.model).latent.factor
        placed = self._placed(flat(have.image(control.image)), values)
        annotating = ready(annotators()[control.annotator], have.annotator_file, have.device)
        drawn = annotating.hint(placed, resolution=control.resolution or None, options=dict(control.options))
        hint = fitted(drawn, *self.size)
        values.put(self.out, Hint(_pixels(hint), place_mask(control.place, self.size, self.whole, self.window, factor, have)))
        yield from ()

    def _placed(self, image: Image.Image, values: Values) -> Image.Image:
        """The image as it lies in what is generated."""
        prepared = None if self.source is None else values.read(self.source)
        if prepared is not None and prepared.box is not None and image.size == prepared.whole.size:
            return resized(image.crop(prepared.box), *self.size, "fill")
        placed = resized(image, *self.whole, self.control.resize)
        return placed if self.window is None else placed.crop(self.window)


def place_mask(
    place: AllOver | MaskPlace, size: Size, whole: Size, window: Box | None, factor: int, have: Lent
) -> Tensor | None:
    """(1, 1, h, w) in positions of the latent, 0 to 1; None for everywhere."""
    if isinstance(place, AllOver):
        return None
    mask = _read_mask(place.image, have).resize(whole, Image.Resampling.BOX)
    seen = mask if window is None else mask.crop(window)
    small = seen.resize((size.width // factor, size.height // factor), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None]


def _read_mask(image: ImageRef, have: Lent) -> Image.Image:
    return masks.mask_of(have.image(image))


def _pixels(image: Image.Image) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    array = np.asarray(image.convert("RGB"), np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1)[None].contiguous()
