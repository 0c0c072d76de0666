"""Which prompts act where on the canvas, as values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.diffusion.combine.handed_over import by_calls, handed_over
from atelier.diffusion.combine.regions import Ground, on_ground, regions
from atelier.diffusion.types import Denoiser
from atelier.pipeline.coupling import Reads, coupled
from atelier.pipeline.sample import Sample
from atelier.pipeline.starts import Beginning
from atelier.pipeline.steering import attentions
from atelier.pipeline.values import Key, Placed

LEAST = 1e-3
"""Less of a position than this is left by no mask, whose values are 255ths, but by rounding."""


class Guided(Protocol):
    """Makes the guided denoiser with the prompts of samples."""

    def __call__(self, samples: Sequence[Sample], region: int | None = None) -> Denoiser:
        """region: by its number, from 0, whose networks act; None: those of the image."""
        ...


class Layout(Protocol):
    """Makes the denoiser of the whole canvas."""

    def laid_out(self, guided: Guided, given: Beginning, /) -> Denoiser: ...

    def reading(self, reads: Reads, given: Beginning, model: Checkpoint, /) -> Reads:
        """What the network reads, of what the samples say."""
        ...


@dataclass(frozen=True, slots=True)
class Everywhere:
    """The prompts are for all of the canvas."""

    def laid_out(self, guided: Guided, given: Beginning, /) -> Denoiser:
        return guided(given.samples)

    def reading(self, reads: Reads, given: Beginning, model: Checkpoint, /) -> Reads:  # noqa: ARG002 - needs none
        return reads


@dataclass(frozen=True, slots=True)
class InAttention:
    """Regions have prompts of their own, to which the network attends in their places; everything else is one.

    placed: where the regions are; weights: how much each counts where they overlap; ground: the share of the calls at
    the start in which each stands alone on flat colours, as `InRegions` has it, so that its thing finds its place. The
    prompts of the image take what no region covers.
    """

    placed: Key[Placed]
    weights: tuple[float, ...]
    ground: float

    def laid_out(self, guided: Guided, given: Beginning, /) -> Denoiser:
        together = guided(given.samples)
        if not self.ground:
            return together

        def alone(samples: Sequence[Sample], region: int | None = None) -> Denoiser:
            return guided([replace(sample, regions=()) for sample in samples], region)

        first = InRegions(self.placed, self.weights, self.ground).laid_out(alone, given)
        return handed_over(together, by_calls(self.ground))(first)

    def reading(self, reads: Reads, given: Beginning, model: Checkpoint, /) -> Reads:
        if not all(sample.regions for sample in reads.samples):
            return reads
        masks = [mask.to(given.noise) for mask in given.values.read(self.placed).masks]
        rest = (1 - torch.stack(masks).sum(0)).clamp(min=0)
        rest = torch.where(rest > LEAST, rest, 0)
        parts = [rest, *(mask * weight for mask, weight in zip(masks, self.weights, strict=True))]
        total = torch.stack(parts).sum(0)
        return coupled(reads, [part / total for part in parts], cross_attentions(model))


def cross_attentions(model: Checkpoint) -> tuple[str, ...]:
    """The paths of the layers of a U-Net that read the text."""
    return attentions(model, "attn2")


@dataclass(frozen=True, slots=True)
class InRegions:
    """Regions have prompts of their own; the prompts of the image fill what no region covers.

    placed: where the regions are; weights: how much each counts where they overlap; ground: the share of the calls at
    the start in which each stands alone on flat colours.
    """

    placed: Key[Placed]
    weights: tuple[float, ...]
    ground: float

    def reading(self, reads: Reads, given: Beginning, model: Checkpoint, /) -> Reads:  # noqa: ARG002 - needs none
        return reads

    def laid_out(self, guided: Guided, given: Beginning, /) -> Denoiser:
        placed = given.values.read(self.placed)
        masks = [mask.to(given.noise) for mask in placed.masks]
        rest = (1 - torch.stack(masks).sum(0)).clamp(min=0)
        parts = list(self._parts(guided, masks, placed, given))
        return regions([*parts, *([(rest, guided(given.samples))] if bool((rest > LEAST).any()) else [])])

    def _parts(
        self, guided: Guided, masks: Sequence[Tensor], placed: Placed, given: Beginning
    ) -> Iterator[tuple[Tensor, Denoiser]]:
        ground = Ground(placed.colours, given.noise, given.noised, self.ground)
        for number, (mask, weight) in enumerate(zip(masks, self.weights, strict=True)):
            denoise = guided([replace(sample, prompt=sample.regions[number]) for sample in given.samples], number)
            yield mask * weight, on_ground(mask, ground, number)(denoise) if self.ground else denoise
