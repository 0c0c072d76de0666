"""Teaching a model from a few images: one denoiser objective, whatever is trained."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from atelier.families.telling import Said
from atelier.nn.ports import Conditioning
from atelier.train import objective, randomness
from atelier.train.data.excerpts import Excerpt, pixels
from atelier.train.data.sheet import sheet
from atelier.train.loop import Placement, Validation
from atelier.train.optimizers import adamw, clipped
from atelier.train.painting import painted
from atelier.train.recipe import digest
from atelier.train.tasks.images import to_images, to_pixels
from atelier.train.teaching.base import Base, Caption, told
from atelier.train.teaching.pupils import Pupil
from atelier.train.teaching.recipe import TeachingRecipe

CACHED = 2**30
"""Bytes of latents that are kept in memory."""


class Lessons(Protocol):
    """Which parts of which images each step sees."""

    @property
    def fingerprint(self) -> str: ...

    def excerpts(self, step: int, /) -> tuple[Excerpt, ...]:
        """A batch: all of one size."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """Makes a step's excerpts."""

    lessons: Lessons

    def __call__(self, step: int) -> tuple[Excerpt, ...]:
        return self.lessons.excerpts(step)


class TeachingTask:
    """A pupil that learns from lessons; see `loop.Task`."""

    def __init__(
        self, recipe: TeachingRecipe, placement: Placement, base: Base, pupil: Pupil, lessons: Lessons
    ) -> None:
        self.recipe, self.placement, self.base, self.pupil, self._lessons = recipe, placement, base, pupil, lessons
        self._weighting = recipe.loss.weighting(base.parameterization)
        self._optimizers = {
            name: adamw([net], recipe.optim, recipe.optim.rate * pupil.rates[name]) for name, net in pupil.nets.items()
        }
        self._latents: OrderedDict[Excerpt, tuple[Tensor, Tensor]] = OrderedDict()
        self._states: dict[Caption, Conditioning] = {}

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return self.pupil.nets

    @property
    def aids(self) -> Mapping[str, nn.Module]:
        return {}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return self._optimizers

    @property
    def identity(self) -> str:
        return f"{digest(self.recipe)}-{self._lessons.fingerprint}"

    @property
    def maker(self) -> Callable[[int], tuple[Excerpt, ...]]:
        return Seen(self._lessons)

    def begin(self) -> None:
        """Everything begins with the base, which is loaded."""

    def update(self, step: int, batch: tuple[Excerpt, ...], /) -> Mapping[str, Tensor]:
        for net in self.nets.values():
            net.zero_grad(set_to_none=True)
        with self.pupil.at_work() as encoder:
            each = self._losses(step, batch, self._conditioning(encoder, batch))
            loss = self._together(each, batch)
            loss.backward()
        norm = clipped(self.nets.values(), self.recipe.optim.clip)
        for optimizer in self._optimizers.values():
            optimizer.step()
        return {"loss": loss.detach(), "norm": norm}

    def _losses(self, step: int, batch: tuple[Excerpt, ...], said: Conditioning) -> Tensor:
        """Of each excerpt: (B,)."""
        seed, device = self.recipe.run.seed, self.placement.device
        mean, deviation = self._posterior(batch)
        clean = mean + deviation * randomness.normal(mean.shape, seed, "posterior", step).to(device)
        noise = randomness.normal(clean.shape, seed, "noise", step).to(device)
        times = objective.shifted(objective.strata(len(batch), seed, step), self.recipe.loss.time_shift)
        t = objective.indices(times, len(self.base.levels.sigmas)).to(device)

        def net(x: Tensor, time: Tensor) -> Tensor:
            return self._net(x, time, said)

        base = self.base
        with self.placement.autocast():
            return objective.loss(net, base.parameterization, base.levels, clean, noise, t, self._weighting)

    def _net(self, x: Tensor, time: Tensor, said: Conditioning) -> Tensor:
        dtype = next(self.base.net.parameters()).dtype
        tokens, pooled = said.tokens.to(dtype), None if said.pooled is None else said.pooled.to(dtype)
        return self.base.net(x.to(dtype), time, replace(said, tokens=tokens, pooled=pooled))

    def _together(self, each: Tensor, batch: tuple[Excerpt, ...]) -> Tensor:
        """One loss: diffusers' form is the mean of the images plus the weighted mean of the class images, kohya's the
        mean of all."""
        weights = torch.tensor([own.weight for own in batch], device=each.device)
        weighed = weights * each
        if self.recipe.loss.prior == "kohya":
            return weighed.mean()
        known = torch.tensor([own.is_class for own in batch], device=each.device)
        parts = [weighed[chosen].mean() for chosen in (~known, known) if bool(chosen.any())]
        return torch.stack(parts).sum()

    # What is seen of an image, and what the network is told of it.

    def _posterior(self, batch: tuple[Excerpt, ...]) -> tuple[Tensor, Tensor]:
        found = [self._of_one(replace(own, caption="", weight=1.0, is_class=False)) for own in batch]
        mean, deviation = (torch.cat(parts) for parts in zip(*found, strict=True))
        return mean, deviation

    def _of_one(self, excerpt: Excerpt) -> tuple[Tensor, Tensor]:
        """Mean and deviation of its latent: (1, C, h, w) each."""
        if excerpt not in self._latents:
            mean, deviation = self.base.posterior(to_pixels(pixels(excerpt)[None], self.placement.device))
            self._latents[excerpt] = mean, deviation
            while len(self._latents) > max(1, CACHED // (2 * mean.nbytes)):
                self._latents.popitem(last=False)
        self._latents.move_to_end(excerpt)
        return self._latents[excerpt]

    def _conditioning(self, encoder: Any, batch: Sequence[Excerpt]) -> Conditioning:
        captions = [caption_of(own) for own in batch]
        if self.pupil.reads:
            with self.placement.autocast():
                return told(self.base, encoder, captions)
        with torch.no_grad():
            for caption in captions:
                if caption not in self._states:
                    self._states[caption] = told(self.base, encoder, [caption])
        return _joined([self._states[caption] for caption in captions])

    # A look at what has been learned.

    def validate(self) -> Validation:
        """Images of the recipe's prompts."""
        prompts = self.recipe.samples
        if not prompts:
            return Validation({}, {})
        return Validation({}, {"images": sheet(list(to_images(self.generate(prompts))), list(prompts), columns=4)})

    @torch.no_grad()
    def generate(self, prompts: Sequence[str]) -> Tensor:
        """Pixels (B, 3, H, W) of prompts, by what has been learned as it is."""
        base, size, device = self.base, self.base.checkpoint.size, self.placement.device
        side = size // base.checkpoint.latent.factor
        shape = (len(prompts), base.checkpoint.latent.channels, side, side)
        noise = randomness.normal(shape, 0, "validation").to(device)
        captions = [*[Caption("", size, size)] * len(prompts), *(Caption(text, size, size) for text in prompts)]
        with ExitStack() as stack:
            encoder = stack.enter_context(self.pupil.at_work())
            stack.enter_context(self.placement.autocast())
            said = told(base, encoder, captions)
            scale = base.checkpoint.defaults.cfg_scale
            x = painted(lambda x, t: self._net(x, t, said), base.parameterization, base.levels, noise, scale)
        return base.pixels(x)

    def extra(self) -> Mapping[str, Any]:
        return {"base": self.base.checkpoint.sha256()}


def caption_of(excerpt: Excerpt) -> Caption:
    """Its words, and the sizes that XL's network is told: of the original, and where the part was cut from it."""
    (width, height), (across, down) = excerpt.size, excerpt.original
    said = Said(original=(down, across), top=excerpt.top, left=excerpt.left)
    return Caption(excerpt.caption, height, width, said)


def _joined(rows: Sequence[Conditioning]) -> Conditioning:
    """One row each, put together; raises nothing since all are of one model, and as long as their captions: shorter ones
    are repeated by their encoder."""

    def over(parts: Sequence[Tensor | None]) -> Tensor | None:
        there = [part for part in parts if part is not None]
        return torch.cat(there) if there else None

    tokens, pooled, sizes = (over([getattr(row, name) for row in rows]) for name in ("tokens", "pooled", "sizes"))
    assert tokens is not None
    return Conditioning(tokens, pooled, sizes)
