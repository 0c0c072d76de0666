"""Reading images of one person for PhotoMaker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atelier.checkpoints.image_encoder import ImageEncoder
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import face_reader, person_net
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.stages.read_face import chosen
from atelier.pipeline.values import Key, Values
from atelier.request.events import Event
from atelier.request.resolved import InNetwork, ModelRef, ResolvedPerson


@dataclass(frozen=True, slots=True)
class ReadPerson(Stage):
    """Leaves the tokens of a person, (K, W), under `out`."""

    model: ModelRef
    person: ResolvedPerson
    out: Key[Tensor]

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [Need(self.model, person_net(self.person.network))]
        needs += [Need(self.model, face_reader(own.file)) for own in self._reader]
        return tuple(needs)

    @property
    def _reader(self) -> tuple[InNetwork, ...]:
        reader = self.person.reader
        return (reader,) if isinstance(reader, InNetwork) else ()

    @torch.no_grad()
    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        """Raises BadInput for an image without a face, where faces are read."""
        net = have.take(Need(self.model, person_net(self.person.network)))
        images = [flat(have.image(own.image)) for own in self.person.images]
        faces: list[Tensor] = []
        for own in self._reader:
            reader = have.take(Need(self.model, face_reader(own.file)))
            for image, shown in zip(images, self.person.images, strict=True):
                found = reader.faces(image)
                yield from chosen(found, shown.which, shown.image).notes
                faces.append(chosen(found, shown.which, shown.image).face.embedding)
        pixels = ImageEncoder(net.vision, self.person.network.name).pixels(images)
        values.put(self.out, net.person(pixels, torch.stack(faces).to(pixels) if faces else None))
