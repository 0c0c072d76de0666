"""Looking at an image that says what is to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atelier.adapters.image_features import image_features
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import image_encoder, image_prompt_net
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.annotate import place_mask
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.values import Key, Looked, Prepared, Values
from atelier.request.events import Event
from atelier.request.resolved import ModelRef, ResolvedReference, Size
from atelier.vision.masks import Box


@dataclass(frozen=True, slots=True)
class Look(Stage):
    """Leaves what an image prompt reads of its images, and where it acts, under `out`.

    size, whole, window, source: see `Annotate`; they matter to the mask alone, for images are seen whole.
    """

    model: ModelRef
    reference: ResolvedReference
    size: Size
    out: Key[Looked]
    whole: Size
    window: Box | None = None
    source: Key[Prepared] | None = None

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [
            Need(self.model, image_prompt_net(self.reference.network)),
            Need(self.model, image_encoder(self.reference.encoder)),
        ]
        return tuple(needs)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        reference = self.reference
        net = have.take(Need(self.model, image_prompt_net(reference.network))).net
        encoder = have.take(Need(self.model, image_encoder(reference.encoder)))
        images = [flat(have.image(own)) for own in (reference.image, *reference.more)]
        features = image_features(encoder, images, net.needs)
        factor = have.checkpoint(self.model).latent.factor
        prepared = None if self.source is None else values.read(self.source)
        mask = place_mask(reference.place, self.size, self.whole, self.window, factor, have, prepared)
        values.put(self.out, Looked(features, mask))
        yield from ()
