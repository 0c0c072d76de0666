"""Putting noise on the small image that an upscaling model makes larger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.diffusion.rng import draw, streams
from atelier.diffusion.types import Levels
from atelier.pipeline.decoding import pixels_of
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.values import Key, Values
from atelier.request.events import Event
from atelier.request.resolved import ModelRef, NoisedChannels

APART = 0x5DEECE66D
"""Added to a seed, so that this noise has nothing to do with the latent's."""
SEEDS = 2**64


@dataclass(frozen=True, slots=True)
class EncodeSmall(Stage):
    """Leaves the image with noise of each sample's own, (samples, 3, h, w), under `out`; source: where noise comes
    from."""

    model: ModelRef
    samples: tuple[Sample, ...]
    channels: NoisedChannels
    source: str
    out: Key[Tensor]

    def needs(self) -> tuple[Need[object], ...]:
        return ()

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        augmented = have.checkpoint(self.model).family.augmented
        assert augmented is not None
        pixels = pixels_of(flat(have.image(self.channels.image)))
        seeds = [(sample.seed + APART) % SEEDS for sample in self.samples]
        noise = draw(streams(seeds, self.source), pixels.shape[1:])
        values.put(self.out, noised(pixels, noise, self.channels.level, augmented()))
        yield from ()


def noised(pixels: Tensor, noise: Tensor, level: int, levels: Levels) -> Tensor:
    """sqrt(a) x + sqrt(1 - a) n, of variance 1 at every level (Ho 2020, arXiv:2006.11239, equation 4)."""
    sigma = levels.sigma(torch.tensor(float(level)))
    return (pixels + sigma * noise) / (1 + sigma**2).sqrt()
