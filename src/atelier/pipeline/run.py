"""Running a plan: an iterator of events. Closing it cancels between two steps and gives everything back."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atelier.errors import AtelierError, BadInput
from atelier.pipeline import passes
from atelier.pipeline.borrowed import Borrowed
from atelier.pipeline.conditioning import States, encode
from atelier.pipeline.resources import TEXT, UNET, VAE, Resources
from atelier.pipeline.stages import Decode, Diffuse, Encode, Save, Stage
from atelier.request.events import Event, Failed, Finished, ImageReady, Preview, Progress, Saved, Started
from atelier.request.infotext import pixel_hash, write
from atelier.request.resolved import ModelRef

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW_SHARE = 0.1
"""Previews take no more than about this share of the time."""


def run(stages: Sequence[Stage], have: Resources, *, previews: float | None = None) -> Generator[Event]:
    """Performs the stages. An AtelierError on the way is the last event, Failed; any other error is raised.

    previews: seconds between one Preview and the next, at least; None shows none. They never change a picture.
    """
    started = time.monotonic()
    diffusing = [stage for stage in stages if isinstance(stage, Diffuse)]
    pictures = sum(len(stage.samples) for stage in diffusing)
    yield Started(pictures, sum(stage.resolved.sampling.steps for stage in diffusing))
    try:
        with Borrowed(have, stages, previews=previews is not None) as parts:
            work = _Work(have, parts, len(diffusing), None if previews is None else _Pace(previews))
            for index, stage in enumerate(stages):
                yield from work.perform(stage)
                parts.finish(index)
    except AtelierError as error:
        yield Failed(error)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        yield Failed(BadInput("this does not fit in memory: choose a smaller size, batch or model"))
    else:
        yield Finished(pictures, time.monotonic() - started)


def _out_of_memory(error: Exception) -> bool:
    """torch has a type for devices only; its allocator on the CPU raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


class _Work:
    """Performs stages one after the other, and keeps what each hands on to the next."""

    def __init__(self, have: Resources, parts: Borrowed, groups: int, pace: _Pace | None) -> None:
        self.have, self.parts, self.groups, self.pace = have, parts, groups, pace
        self.done = 0
        self.states: States = {}
        self.latents: Sequence[Tensor] = ()
        self.painted: Sequence[tuple[Image, str]] = ()

    def perform(self, stage: Stage) -> Iterator[Event]:
        match stage:
            case Encode():
                self.states = encode(stage, self.parts.take(stage.model, TEXT))
            case Diffuse():
                yield from self._diffuse(stage)
            case Decode():
                yield from self._decode(stage)
            case Save():
                yield from self._save(stage)

    def _diffuse(self, stage: Diffuse) -> Iterator[Event]:
        reference, first = stage.resolved.model, stage.samples[0].picture
        model, unet = self.have.checkpoint(reference), self.parts.take(reference, UNET)
        for step in passes.diffuse(stage, unet, model, self.states, self.have.device):
            self.done += 1
            self.latents = step.x.unbind()
            yield Progress(self.done, self.groups * step.total, first)
            if self.pace is not None and step.index < step.total - 1:
                clean = step.clean[0]
                image = self.pace.maybe(lambda: self._thumbnail(reference, clean))  # noqa: B023 - called at once
                if image is not None:
                    yield Preview(first, image)

    def _thumbnail(self, model: ModelRef, clean: Tensor) -> Image:
        return passes.thumbnail(clean, self.parts.take(model, VAE), self.have.checkpoint(model).latent)

    def _decode(self, stage: Decode) -> Iterator[Event]:
        model, vae = self.have.checkpoint(stage.model), self.parts.take(stage.model, VAE)
        painted: list[tuple[Image, str]] = []
        for sample, latent in zip(stage.samples, self.latents, strict=True):
            image = passes.decode(latent, vae, model.latent)
            infotext = write(replace(sample.settings, pixel_hash=pixel_hash(image)))
            painted.append((image, infotext))
            yield ImageReady(sample.picture, sample.seed, image, infotext)
        self.painted, self.latents = painted, ()

    def _save(self, stage: Save) -> Iterator[Event]:
        for sample, (image, infotext) in zip(stage.samples, self.painted, strict=True):
            path = self.have.save(
                image, infotext, output=stage.output, picture=sample.picture, pictures=stage.pictures, seed=sample.seed
            )
            yield Saved(sample.picture, path)


class _Pace:
    """Makes previews neither too often nor too dear."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.due = time.monotonic() + seconds

    def maybe(self, make: Callable[[], Image]) -> Image | None:
        """What `make` makes, if it is time for it."""
        start = time.monotonic()
        if start < self.due:
            return None
        image = make()
        end = time.monotonic()
        self.due = end + max(self.seconds, (end - start) / PREVIEW_SHARE)
        return image
