"""Encoding the map of depths that a network sees beside the latent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import DEPTH
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.values import Key, Prepared, Values
from atelier.request.events import Event
from atelier.request.resolved import EstimatedDepth, GivenDepth, ModelRef, Size
from atelier.vision.geometry import resized


@dataclass(frozen=True, slots=True)
class EncodeDepth(Stage):
    """Leaves the map, (1, 1, h, w) from -1 (far) to 1, under `out`; `source`: where the image to start from is, None
    for none."""

    model: ModelRef
    size: Size
    depth: EstimatedDepth | GivenDepth
    source: Key[Prepared] | None
    out: Key[Tensor]

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [Need(self.model, DEPTH)] if isinstance(self.depth, EstimatedDepth) else []
        return tuple(needs)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        prepared, factor = None if self.source is None else values.read(self.source), have.checkpoint(self.model).latent
        if isinstance(self.depth, GivenDepth):
            depths = _values(self._placed(flat(have.image(self.depth.image)).convert("L"), prepared, self.depth.resize))
        else:
            assert prepared is not None
            depths = have.take(Need(self.model, DEPTH)).depths(prepared.image)
        values.put(self.out, normalized(depths, self.size.height // factor.factor, self.size.width // factor.factor))
        yield from ()

    def _placed(self, grey: Image.Image, prepared: Prepared | None, how: str) -> Image.Image:
        """The map as the image lies in the canvas. One that is stretched is resized only once, to the latent's size."""
        if prepared is not None and prepared.box is not None:
            whole = grey.resize(prepared.whole.size, Image.Resampling.BICUBIC)
            return resized(whole.crop(prepared.box), *self.size, "fill")
        return grey if how == "stretch" else resized(grey, *self.size, "crop" if how == "crop" else "fill")


def normalized(depths: Tensor, height: int, width: int) -> Tensor:
    """(1, 1, h', w') at the size of the latent, its least value -1 and its greatest 1, as diffusers'
    StableDiffusionDepth2ImgPipeline does; a map that is the same all over is 0."""
    scaled = F.interpolate(depths, (height, width), mode="bicubic", align_corners=False)
    low, high = scaled.amin(), scaled.amax()
    return torch.zeros_like(scaled) if low == high else 2 * (scaled - low) / (high - low) - 1


def _values(grey: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(grey, np.float32))[None, None]
