"""Turning latents into images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.decoding import Decoder, decode, seen_by
from atelier.pipeline.finishes import AsItIs, Finish
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import AUTOENCODER, TINY, has_tiny
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import FinishedImage, Images, Key, Latents, Values
from atelier.request.events import Event, ImageReady
from atelier.request.infotext import pixel_hash, write
from atelier.request.resolved import ModelRef, VaeStrips


@dataclass(frozen=True, slots=True)
class Decode(Stage):
    """Takes the latents of `source` and leaves the images under `out`, each with the text that makes it again.

    finish: what becomes of an image once it is decoded; seamless: where its edges meet; told: whether anybody hears of
    it, else it is for a later stage only; strips: whether images are made strip by strip.
    """

    model: ModelRef
    samples: tuple[Sample, ...]
    source: Key[Latents]
    out: Key[Images]
    finish: Finish = field(default_factory=AsItIs)
    seamless: Seamless = EDGES
    told: bool = True
    strips: VaeStrips = "auto"

    def needs(self) -> tuple[Need[object], ...]:
        return (Need(self.model, TINY if has_tiny(self.model) else AUTOENCODER),)

    def _decoder(self, have: Lent) -> Decoder:
        return have.take(Need(self.model, TINY)) if has_tiny(self.model) else have.take(Need(self.model, AUTOENCODER))

    @property
    def images(self) -> int:
        return len(self.samples) if self.told else 0

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        vae, latents = self._decoder(have), values.take(self.source)
        format_ = seen_by(vae, have.checkpoint(self.model).latent)
        made: dict[int, FinishedImage] = {}
        for sample in self.samples:
            latent = latents[sample.index]
            decoded = decode(latent, vae, format_, self.seamless, self.strips)
            image = self.finish.finished(decoded, latent, values)
            infotext = write(replace(sample.settings, pixel_hash=pixel_hash(image)))
            made[sample.index] = FinishedImage(image, infotext)
            if self.told:
                yield ImageReady(sample.index, sample.seed, image, infotext)
        values.put(self.out, made)
