"""Encoding an image that a model looks at while it denoises another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from atelier.pipeline.decoding import encode_image
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import AUTOENCODER
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.values import Key, Values
from atelier.request.events import Event
from atelier.request.resolved import ModelRef, ResolvedExample, Size, VaeStrips
from atelier.vision.geometry import resized


@dataclass(frozen=True, slots=True)
class EncodeExample(Stage):
    """Leaves the latent of the image, (1, C, h, w) at `size`, under `out`; what hangs over is cut off evenly."""

    model: ModelRef
    example: ResolvedExample
    size: Size
    out: Key[Tensor]
    strips: VaeStrips

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [Need(self.model, AUTOENCODER)]
        return tuple(needs)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        image = resized(flat(have.image(self.example.image)), *self.size, "crop")
        vae, format_ = have.take(Need(self.model, AUTOENCODER)), have.checkpoint(self.model).latent
        values.put(self.out, encode_image(image, vae, format_, strips=self.strips))
        yield from ()
