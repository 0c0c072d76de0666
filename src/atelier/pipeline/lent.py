"""What a run lends its stages: parts of models, each from the first stage that takes it to the last that needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, cast

import torch
from PIL.Image import Image

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.diffusion.types import Denoiser
from atelier.pipeline.resources import PLAIN, Adapted, PartOf, Resources, T
from atelier.pipeline.tape import Tape
from atelier.request.resolved import ImageRef, ModelRef

PREVIEW_SHARE = 0.1
"""Previews take no more than about this share of the time."""


@dataclass(frozen=True, slots=True)
class Need(Generic[T]):
    """A part of a model that a stage uses, and with which networks that prompts name."""

    model: ModelRef
    part: PartOf[T]
    adapted: Adapted = PLAIN


class Needing(Protocol):
    def needs(self) -> Sequence[Need[object]]: ...


@dataclass(frozen=True, slots=True)
class _Held:
    part: object
    context: ExitStack


class Lent:
    """The resources of a run as its stages see them: a context that gives everything back however it ends.

    previews: seconds between two previews, at least; None: nobody wants any. tape: what keeps the predictions.
    """

    def __init__(
        self,
        have: Resources,
        stages: Sequence[Needing],
        *,
        previews: float | None = None,
        tape: Tape | None = None,
    ) -> None:
        self._have = have
        self._last = {need: index for index, stage in enumerate(stages) for need in stage.needs()}
        self._held: dict[Need[object], _Held] = {}
        self._tape = tape
        self._pace = None if previews is None else _Pace(previews)

    @property
    def device(self) -> torch.device:
        """Where networks compute."""
        return self._have.device

    def checkpoint(self, model: ModelRef) -> Checkpoint:
        """What is known of a model without reading its tensors. Raises BadFile."""
        return self._have.checkpoint(model)

    def take(self, need: Need[T]) -> T:
        """The part, borrowed now if it is not held already. Raises BadFile."""
        key = cast("Need[object]", need)
        if key not in self._held:
            context = ExitStack()
            self._held[key] = _Held(
                context.enter_context(self._have.borrow(need.model, need.part, need.adapted)), context
            )
        return cast("T", self._held[key].part)

    def is_ready(self, need: Need[T]) -> bool:
        """Whether taking it reads no file."""
        return need in self._held or self._have.is_loaded(need.model, need.part, need.adapted)

    def held(self) -> tuple[tuple[Need[object], object], ...]:
        """What has been taken and not given back."""
        return tuple((need, own.part) for need, own in self._held.items())

    def image(self, image: ImageRef) -> Image:
        """The image named, upright, RGB or RGBA. Raises BadFile, also where it is another one by now."""
        return self._have.image(image)

    def save(self, image: Image, infotext: str, *, output: str, index: int, count: int, seed: int) -> Path:
        """Writes a whole image and returns where it lies. Raises BadFile or StorageFull, leaving nothing behind."""
        return self._have.save(image, infotext, output=output, index=index, count=count, seed=seed)

    def recorded(self, denoise: Denoiser, image: int, *, remembers: bool) -> Denoiser:
        """What predicts in a pass over the images from index `image` on, kept where somebody wants that.

        remembers: whether something in it carries over from one call to the next.
        """
        return denoise if self._tape is None else self._tape.around(denoise, image, remembers=remembers)

    def preview(self, make: Callable[[], Image]) -> Image | None:
        """What `make` makes, if somebody wants it and it is time for it."""
        return None if self._pace is None else self._pace.maybe(make)

    def finish(self, stage: int) -> None:
        """Gives back what no stage after this one (by its index) needs."""
        for key in [key for key in self._held if self._last.get(key, stage) <= stage]:
            self._held.pop(key).context.close()

    def __enter__(self) -> Self:
        """Holds what is in memory already, so that loading one part does not drop another that a later stage needs."""
        for need in self._last:
            if self._have.is_loaded(need.model, need.part, need.adapted):
                self.take(need)
        return self

    def __exit__(self, *_: object) -> None:
        while self._held:
            self._held.popitem()[1].context.close()


class _Pace:
    """Makes previews neither too often nor too dear."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.due = time.monotonic() + seconds

    def maybe(self, make: Callable[[], Image]) -> Image | None:
        start = time.monotonic()
        if start < self.due:
            return None
        image = make()
        end = time.monotonic()
        self.due = end + max(self.seconds, (end - start) / PREVIEW_SHARE)
        return image
