"""Encoding what a network sees beside the latent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atelier.families.facts import LatentFormat
from atelier.models.vae import AutoencoderKL
from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.decoding import encode_pixels, pixels_of
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import AUTOENCODER
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Key, Prepared, Values
from atelier.request.events import Event
from atelier.request.resolved import ImageChannels, MaskedChannels, ModelRef, Size, VaeStrips
from atelier.vision.geometry import resized


@dataclass(frozen=True, slots=True)
class EncodeChannels(Stage):
    """Leaves the channels under `out`; `source`: where the image is, None for none; seamless: where its edges meet;
    soft: the mask may hold grey; strips: whether the image is read strip by strip."""

    model: ModelRef
    size: Size
    channels: MaskedChannels | ImageChannels
    source: Key[Prepared] | None
    out: Key[Tensor]
    seamless: Seamless = EDGES
    soft: bool = False
    strips: VaeStrips = "auto"

    def needs(self) -> tuple[Need[object], ...]:
        return (Need(self.model, AUTOENCODER),)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        vae, format_ = have.take(Need(self.model, AUTOENCODER)), have.checkpoint(self.model).latent
        prepared = None if self.source is None else values.read(self.source)
        pixels = self._grey() if prepared is None else pixels_of(resized(prepared.image, *self.size, "stretch"))
        match self.channels:
            case MaskedChannels(weight=weight):
                where = None if prepared is None or prepared.mask is None else self._values(prepared.mask)
                values.put(self.out, masked_channels(pixels, where, weight, vae, format_, self.seamless, self.strips))
            case ImageChannels():
                latent = encode_pixels(pixels, vae, format_, self.seamless, self.strips)
                values.put(self.out, format_.unscaled(latent))
        yield from ()

    def _values(self, mask: Image.Image) -> Tensor:
        """The mask as (1, 1, H, W), 0 to 1."""
        where = torch.from_numpy(np.asarray(mask, np.float32) / 255)[None, None]
        return where if self.soft else where.round()

    def _grey(self) -> Tensor:
        """What an inpainting model sees where there is no image: grey of 0.5."""
        return torch.zeros(1, 3, self.size.height, self.size.width)


def masked_channels(
    pixels: Tensor,
    where: Tensor | None,
    weight: float,
    vae: AutoencoderKL,
    format_: LatentFormat,
    seamless: Seamless = EDGES,
    strips: VaeStrips = "auto",
) -> Tensor:
    """The mask at the corner of each position, then the latent of the image with what is under the mask turned to
    grey by `weight`: (1, 1 + C, h, w). Without a mask all of it is masked, and the image is as it is."""
    if where is None:
        where, seen = torch.ones(1, 1, *pixels.shape[2:]), pixels
    else:
        seen = torch.lerp(pixels, pixels * (1 - where), weight)
    latent = encode_pixels(seen, vae, format_, seamless, strips)
    return torch.cat([F.interpolate(where, latent.shape[2:]).to(latent), latent], dim=1)
