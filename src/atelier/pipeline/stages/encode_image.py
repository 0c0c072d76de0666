"""Turning the image to start from into a latent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.decoding import encode_image
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import AUTOENCODER
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Key, Known, Prepared, Values
from atelier.request.events import Event
from atelier.request.resolved import ModelRef, Size, VaeStrips
from atelier.vision.geometry import resized


@dataclass(frozen=True, slots=True)
class EncodeImage(Stage):
    """Takes the image of `source_key` and leaves its latent and mask, at `size`, under `out`; seamless: where its edges
    meet; soft: the mask may hold grey; strips: whether it is read strip by strip."""

    model: ModelRef
    size: Size
    source_key: Key[Prepared]
    out: Key[Known]
    seamless: Seamless = EDGES
    soft: bool = False
    strips: VaeStrips = "auto"

    def needs(self) -> tuple[Need[object], ...]:
        return (Need(self.model, AUTOENCODER),)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        prepared, format_ = values.read(self.source_key), have.checkpoint(self.model).latent
        width, height = (max(side - side % format_.factor, format_.factor) for side in prepared.image.size)
        image = resized(prepared.image, width, height, "stretch")
        vae = have.take(Need(self.model, AUTOENCODER))
        latent = encode_image(image, vae, format_, self.seamless, self.strips)
        sides = self.size.height // format_.factor, self.size.width // format_.factor
        if tuple(latent.shape[2:]) != sides:
            latent = F.interpolate(latent, sides, mode="bilinear", align_corners=False)
        mask = torch.ones(1, 1, *sides) if prepared.mask is None else latent_mask(prepared.mask, sides)
        values.put(self.out, Known(latent, (mask if self.soft else mask.round()).to(latent)))
        yield from ()


def latent_mask(mask: Image.Image, sides: tuple[int, int]) -> Tensor:
    """The mask (L) in latent positions, 0 to 1: (1, 1, h, w)."""
    small = mask.resize((sides[1], sides[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None]
