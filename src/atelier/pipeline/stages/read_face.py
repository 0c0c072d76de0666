"""Reading the face in an image: whose it is, and where it is to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.adapters.image_features import image_features
from atelier.adapters.steering import Features
from atelier.errors import BadInput
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import face_reader, image_encoder, image_prompt_net
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.annotate import lying, place_mask
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.values import Hint, Key, Looked, Prepared, Values
from atelier.request.events import Event, Warned
from atelier.request.resolved import ImageRef, ModelRef, NotRead, ResolvedFace, ResolvedIdentity, Size
from atelier.vision.arrays.shapes import Point
from atelier.vision.faces import Face, FaceReader, crop
from atelier.vision.geometry import moved
from atelier.vision.masks import Box
from atelier.vision.pose import face_drawn

SHOWN = 60
"""Characters of an image's name in messages."""


@dataclass(frozen=True, slots=True)
class ReadFace(Stage):
    """Leaves what an image prompt reads of a face, and where it acts, under `out`; under `place`, the hint of where the
    face is, if a ControlNet reads it.

    size, whole, window, source, of_source: see `Annotate`; the last one is about the image of the pose. tells: whether
    a line is told of other faces in the image: one stage of a run is enough.
    """

    model: ModelRef
    face: ResolvedFace
    size: Size
    out: Key[Looked]
    place: Key[Hint]
    whole: Size
    window: Box | None = None
    source: Key[Prepared] | None = None
    of_source: bool = False
    tells: bool = True

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [
            Need(self.model, face_reader(self.face.reader)),
            Need(self.model, image_prompt_net(self.face.network)),
        ]
        if not isinstance(self.face.encoder, NotRead):
            needs.append(Need(self.model, image_encoder(self.face.encoder)))
        return tuple(needs)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        """Raises BadInput for an image without such a face."""
        reader = have.take(Need(self.model, face_reader(self.face.reader)))
        prepared = None if self.source is None else values.read(self.source)
        image = flat(have.image(self.face.image))
        found = reader.faces(image)
        picked = chosen(found, self.face.which, self.face.image)
        yield from picked.notes if self.tells else ()
        images, faces = [image], [picked.face]
        for shown in self.face.more:
            images.append(flat(have.image(shown.image)))
            other = chosen(reader.faces(images[-1]), shown.which, shown.image)
            yield from other.notes if self.tells else ()
            faces.append(other.face)
        factor = have.checkpoint(self.model).latent.factor
        mask = place_mask(self.face.place, self.size, self.whole, self.window, factor, have, prepared)
        values.put(self.out, Looked(self._features(images, faces, have), mask))
        if isinstance(self.face.identity, ResolvedIdentity):
            drawn = self._drawn(self.face.identity, picked.face, reader, have, prepared)
            values.put(self.place, Hint(_pixels(drawn), mask))

    def _features(self, images: Sequence[Image.Image], faces: Sequence[Face], have: Lent) -> Features:
        net = have.take(Need(self.model, image_prompt_net(self.face.network))).net
        embedding = torch.stack([face.embedding for face in faces]).to(have.device)
        if isinstance(self.face.encoder, NotRead):
            return image_features(None, [], net.needs, embedding)
        encoder = have.take(Need(self.model, image_encoder(self.face.encoder)))
        seen = [crop(image, face) for image, face in zip(images, faces, strict=True)]
        return image_features(encoder, seen, net.needs, embedding)

    def _drawn(
        self, identity: ResolvedIdentity, face: Face, reader: FaceReader, have: Lent, prepared: Prepared | None
    ) -> Image.Image:
        """The five points of the face, as its image lies in what is generated."""
        image, points = flat(have.image(identity.pose)), face.points
        lies = lying(image, self.whole, self.size, "crop", prepared, of_source=self.of_source)
        if identity.pose != self.face.image or lies.image is not image:
            whole = prepared is None or prepared.box is None  # in a part, the largest face is what is made anew
            which = self.face.which if whole and identity.pose == self.face.image else 1
            points = chosen(reader.faces(lies.image), which, identity.pose).face.points
        there = [Point(x, y) for x, y in moved(points, lies.image.size, *lies.size, lies.how)]
        drawn = face_drawn(there, *lies.size)
        return drawn if self.window is None or lies.size == self.size else drawn.crop(self.window)


class Chosen(NamedTuple):
    """The face that is read, and what is to be told of the others."""

    face: Face
    notes: tuple[Warned, ...]


def chosen(found: tuple[Face, ...], which: int, image: ImageRef) -> Chosen:
    """Of the faces in an image, the largest first, the one that is asked for. Raises BadInput where there are fewer."""
    if not found:
        raise BadInput(f"{_named(image)}: no face is found in it: choose one with a face seen from the front")
    if which > len(found):
        there = "one face" if len(found) == 1 else f"{len(found)} faces"
        raise BadInput(f"{_named(image)}: which={which}, and it has {there}: choose 1 to {len(found)}")
    told = f"{_named(image)}: has {len(found)} faces, the largest is read; which=2 is the next"
    return Chosen(found[which - 1], (Warned(told),) if len(found) > 1 and which == 1 else ())


def _named(image: ImageRef) -> str:
    """What messages call an image."""
    return image.path if len(image.path) <= SHOWN else image.path[: SHOWN - 1] + "…"


def _pixels(image: Image.Image) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None].contiguous()
