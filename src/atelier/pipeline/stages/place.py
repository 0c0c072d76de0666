"""Bringing regions into latent positions, and what they stand on at first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.errors import BadInput
from atelier.pipeline.decoding import encode_image
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import AUTOENCODER
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Key, Placed, Values
from atelier.request.events import Event
from atelier.request.resolved import BoxPlace, MaskPlace, ModelRef, ResolvedRegions, Size
from atelier.vision import masks
from atelier.vision.masks import Box

COLOURS = tuple((red, green, blue) for red in (32, 224) for green in (224, 32) for blue in (32, 224))
"""The flat grounds: corners of the cube of colours, so that together they favour none."""
SWATCH = 16
"""Latent positions along a side of the image of a colour; its middle is taken, away from the edges."""


@dataclass(frozen=True, slots=True)
class Place(Stage):
    """Leaves the masks of the regions at `size`, and the colours that they stand on if they do, under `out`.

    window: the part of the image that is generated, in pixels; None for all of it.
    """

    model: ModelRef
    regions: ResolvedRegions
    size: Size
    out: Key[Placed]
    window: Box | None = None

    def needs(self) -> tuple[Need[object], ...]:
        return (Need(self.model, AUTOENCODER),) if self.regions.ground else ()

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        format_ = have.checkpoint(self.model).latent
        found = tuple(self._mask(number, format_.factor, have) for number in range(len(self.regions.parts)))
        values.put(self.out, Placed(found, self._colours(have)))
        yield from ()

    def _mask(self, number: int, factor: int, have: Lent) -> Tensor:
        place, seen = self.regions.parts[number].place, self.window or Box(0, 0, *self.size)
        sides = seen.size[1] // factor, seen.size[0] // factor
        is_box = isinstance(place, BoxPlace)
        mask = _box(place, self.size, seen, factor) if is_box else self._drawn(place, sides, seen, have)
        if self.window is None and not bool((mask > 0).any()):
            raise BadInput(
                f"region {number + 1} covers none of the {sides[1]}x{sides[0]} positions of the latent: make it larger"
            )
        return mask

    def _drawn(self, place: MaskPlace, sides: tuple[int, int], seen: Box, have: Lent) -> Tensor:
        mask = masks.mask_of(have.image(place.image))
        if mask.size != tuple(self.size):  # it is as large as the image of the first pass
            mask = mask.resize(self.size, Image.Resampling.BOX)
        small = mask.crop(seen).resize((sides[1], sides[0]), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None]

    def _colours(self, have: Lent) -> Tensor:
        format_ = have.checkpoint(self.model).latent
        if not self.regions.ground:
            return torch.empty(0, format_.channels, 1, 1)
        vae, side = have.take(Need(self.model, AUTOENCODER)), SWATCH * format_.factor
        latents = [encode_image(Image.new("RGB", (side, side), colour), vae, format_) for colour in COLOURS]
        middle = slice(SWATCH // 2, SWATCH // 2 + 1)
        return torch.cat(latents)[:, :, middle, middle]


def _box(box: BoxPlace, size: Size, seen: Box, factor: int) -> Tensor:
    """1 inside, 0 outside; edges go to the nearest position of what is seen of an image of `size`."""
    mask = torch.zeros(1, 1, seen.size[1] // factor, seen.size[0] // factor)
    down, across = (
        [max(0, round((share * side - start) / factor)) for share in shares]
        for shares, side, start in (
            ((box.top, box.bottom), size.height, seen.top),
            ((box.left, box.right), size.width, seen.left),
        )
    )
    mask[:, :, slice(*down), slice(*across)] = 1
    return mask
