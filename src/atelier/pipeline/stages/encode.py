"""Turning texts into what the denoiser attends to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from atelier.errors import NotFinite
from atelier.pipeline.conditioning import States, encode
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.persons import Person
from atelier.pipeline.resources import PLAIN, TEXT, Adapted, person_net
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Key, Values
from atelier.request.events import Event
from atelier.request.resolved import ModelRef, NetworkRef


@dataclass(frozen=True, slots=True)
class Meeting:
    """A person in prompts: the network, where a stage left what it makes of images, and the weight."""

    network: NetworkRef
    tokens: Key[Tensor]
    weight: float


@dataclass(frozen=True, slots=True)
class Encode(Stage):
    """Encodes every text once; leaves the states of all of them under `out`.

    groups: texts that are encoded together, those of one prompt's timeline, because Original emphasis evens out the
    mean over all of them. adapted: what the text encoders are borrowed with; person: who is in those texts that have
    the mark of one.
    """

    model: ModelRef
    groups: tuple[tuple[str, ...], ...]
    emphasis: str
    clip_skip: int
    out: Key[States]
    adapted: Adapted = PLAIN
    person: Meeting | None = None

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [Need(self.model, TEXT, self.adapted)]
        if self.person is not None:
            needs.append(Need(self.model, person_net(self.person.network)))
        return tuple(needs)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        """Raises NotFinite."""
        encoder = have.take(Need(self.model, TEXT, self.adapted))
        states = encode(self.groups, encoder, self.emphasis, self.clip_skip, self._person(have, values))
        if not all(bool(own.tokens.isfinite().all()) for group in states.values() for own in group.values()):
            raise NotFinite("what the text encoder makes of the prompt is not finite; ATELIER_DTYPE=fp32 may help")
        values.put(self.out, states)
        yield from ()

    def _person(self, have: Lent, values: Values) -> Person | None:
        if self.person is None:
            return None
        net = have.take(Need(self.model, person_net(self.person.network)))
        return Person(net, values.read(self.person.tokens), self.person.weight)
