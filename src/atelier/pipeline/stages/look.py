"""Looking at an image that says what is to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atelier.pipeline.lent import Lent
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Key, Looked, Values
from atelier.request.events import Event
from atelier.request.resolved import ModelRef, ResolvedReference, Size
from atelier.vision.masks import Box


@dataclass(frozen=True, slots=True)
class Look(Stage):
    model: ModelRef
    reference: ResolvedReference
    size: Size
    out: Key[Looked]
    whole: Size
    window: Box | None = None

    def needs(self) -> tuple[()]:
        return ()

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        raise NotImplementedError
