"""What is done to finished images: A1111's Extras tab, as far as upscalers go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL.Image import Image

from atelier.errors import BadInput
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import UPSCALER
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import FinishedImage, Images, Key, Values
from atelier.request.events import Event, ImageReady
from atelier.request.infotext import pixel_hash, write
from atelier.request.resolved import ByFactor, InFile, NamedUpscaler, ResolvedPostprocess
from atelier.vision.blended import Blended
from atelier.vision.catalogue import filters
from atelier.vision.enlarging import cover, enlarge
from atelier.vision.upscaling import MOST_PIXELS, Upscaler


@dataclass(frozen=True, slots=True)
class Postprocess(Stage):
    """Enlarges the images under `images_key`, in place, and tells of them."""

    samples: tuple[Sample, ...]
    wanted: ResolvedPostprocess
    images_key: Key[Images]

    def needs(self) -> tuple[Need[object], ...]:
        files = (upscaler.file for upscaler in self.wanted.upscalers)
        needs: list[Need[Any]] = [Need(file.file, UPSCALER) for file in files if isinstance(file, InFile)]
        return tuple(needs)

    @property
    def images(self) -> int:
        return len(self.samples)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        """Raises BadInput for a result that would be too large."""
        first, *others = (_lent(upscaler, have) for upscaler in self.wanted.upscalers)
        upscaler = Blended(first, others[0], self.wanted.visibility) if others else first
        before, made = values.read(self.images_key), dict[int, FinishedImage]()
        for sample in self.samples:
            image = self._enlarged(before[sample.index].image, upscaler)
            infotext = write(replace(sample.settings, pixel_hash=pixel_hash(image)))
            made[sample.index] = FinishedImage(image, infotext)
            yield ImageReady(sample.index, sample.seed, image, infotext)
        values.put(self.images_key, made)

    def _enlarged(self, image: Image, upscaler: Upscaler) -> Image:
        scale = self.wanted.scale
        if isinstance(scale, ByFactor):
            size = max(1, round(image.width * scale.factor)), max(1, round(image.height * scale.factor))
        else:
            size = scale.size.width, scale.size.height
        if size[0] * size[1] > MOST_PIXELS:
            told = f"{size[0]}x{size[1]} is more than {MOST_PIXELS:,} pixels"
            raise BadInput(f"postprocess: {told}: choose a smaller size")
        return (enlarge if isinstance(scale, ByFactor) else cover)(upscaler, image, size)


def _lent(upscaler: NamedUpscaler, have: Lent) -> Upscaler:
    file = upscaler.file
    return have.take(Need(file.file, UPSCALER)) if isinstance(file, InFile) else filters()[upscaler.name]
