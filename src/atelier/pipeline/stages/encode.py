"""Turning texts into what the denoiser attends to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atelier.errors import NotFinite
from atelier.pipeline.conditioning import States, encode
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import PLAIN, TEXT, Adapted
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Key, Values
from atelier.request.events import Event
from atelier.request.resolved import ModelRef


@dataclass(frozen=True, slots=True)
class Encode(Stage):
    """Encodes every text once; leaves the states of all of them under `out`.

    groups: texts that are encoded together, those of one prompt's timeline, because Original emphasis evens out the
    mean over all of them. adapted: what the text encoders are borrowed with.
    """

    model: ModelRef
    groups: tuple[tuple[str, ...], ...]
    emphasis: str
    clip_skip: int
    out: Key[States]
    adapted: Adapted = PLAIN

    def needs(self) -> tuple[Need[object], ...]:
        return (Need(self.model, TEXT, self.adapted),)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        """Raises NotFinite."""
        encoder = have.take(Need(self.model, TEXT, self.adapted))
        states = encode(self.groups, encoder, self.emphasis, self.clip_skip)
        if not all(bool(own.tokens.isfinite().all()) for group in states.values() for own in group.values()):
            raise NotFinite("what the text encoder makes of the prompt is not finite; ATELIER_DTYPE=fp32 may help")
        values.put(self.out, states)
        yield from ()
