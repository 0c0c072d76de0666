"""The parts of models that a run holds: each from the first stage that takes it to the last that may."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self, cast

from atelier.pipeline.resources import TEXT, UNET, VAE, PartOf, Resources, T
from atelier.pipeline.stages import Decode, Diffuse, Encode, Stage
from atelier.request.resolved import ModelRef

Key = tuple[ModelRef, PartOf[object]]


@dataclass(frozen=True, slots=True)
class _Held:
    part: object
    context: ExitStack


class Borrowed:
    """A context that gives everything back when it ends, however it ends."""

    def __init__(self, have: Resources, stages: Sequence[Stage], *, previews: bool) -> None:
        self._have = have
        self._last = {key: i for i, stage in enumerate(stages) for key in _needs(stage, previews=previews)}
        self._held: dict[Key, _Held] = {}

    def take(self, model: ModelRef, part: PartOf[T]) -> T:
        """The part, borrowed now if it is not held already. Raises BadFile."""
        key = (model, part)
        if key not in self._held:
            context = ExitStack()
            self._held[key] = _Held(context.enter_context(self._have.borrow(model, part)), context)
        return cast("T", self._held[key].part)

    def finish(self, stage: int) -> None:
        """Gives back what no stage after this one (by its index) takes."""
        for key in [key for key in self._held if self._last[key] <= stage]:
            self._held.pop(key).context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._held:
            self._held.popitem()[1].context.close()


def _needs(stage: Stage, *, previews: bool) -> list[Key]:
    match stage:
        case Encode(model):
            return [(model, TEXT)]
        case Diffuse(resolved):
            return [(resolved.model, UNET), (resolved.model, VAE)] if previews else [(resolved.model, UNET)]
        case Decode(model):
            return [(model, VAE)]
        case _:
            return []
