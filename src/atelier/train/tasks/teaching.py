"""Teaching a model from a few images: one denoiser objective, whatever is trained."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.checkpoints.text import TextTowers
from atelier.families.telling import Said
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.train import noise as noises
from atelier.train import objective, randomness, timesteps
from atelier.train.data.cache import Cache, excerpt_key
from atelier.train.data.excerpts import Excerpt, mask, pixels
from atelier.train.data.sheet import sheet
from atelier.train.data.teaching import TeachingSet
from atelier.train.descent import Descent
from atelier.train.folder import LATENTS, TEXTS
from atelier.train.latents import encoder_digest
from atelier.train.loop import Placement, Validation
from atelier.train.optimizers import grouped
from atelier.train.recipe import digest
from atelier.train.recompute import recomputed
from atelier.train.sampling import sampled
from atelier.train.tasks.images import to_images, to_pixels
from atelier.train.teaching.base import Base, Caption, chunks_of, conditioning_of, predict, states_of
from atelier.train.teaching.dropout import Draw
from atelier.train.teaching.inpainting import all_new, beside, holes, sees_holes
from atelier.train.teaching.kept_captions import KeptCaptions
from atelier.train.teaching.pupils import Pupil
from atelier.train.teaching.recipe import TeachingRecipe
from atelier.train.teaching.training_images import StepExcerpts, side_of
from atelier.train.validation import fixed_loss

CACHED = 2**30
"""Bytes of latents that are kept in memory."""
MEASURED = 16
"""Training images whose loss is measured at the same noise always."""


@dataclass(frozen=True, slots=True)
class Noised:
    """What a step asks of the network, of each of its images: latents, their noise, what the network sees beside it,
    times, weights of the losses, which of their positions count, channels beside the latent."""

    clean: Tensor
    noise: Tensor
    disturbance: Tensor | None
    t: Tensor
    weights: Tensor
    mask: Tensor | None
    channels: Tensor | None = None

    def rows(self, chosen: slice) -> Noised:
        beside, counts, channels = (
            None if part is None else part[chosen] for part in (self.disturbance, self.mask, self.channels)
        )
        own = (self.clean[chosen], self.noise[chosen], beside, self.t[chosen])
        return Noised(*own, self.weights[chosen], counts, channels)


Steered = Callable[[Sequence[Excerpt], Tensor, Tensor, Conditioning, Tensor], Ports]
"""(a batch, x, t, what the network is told, which rows are a negative prompt's (B,)) -> what enters the denoiser beside
that."""


def unsteered(_batch: Sequence[Excerpt], _x: Tensor, _t: Tensor, _said: Conditioning, _negative: Tensor) -> Ports:
    return NOTHING


class TeachingTask:
    """A pupil that learns from images; see `loop.Task`. What the autoencoder makes of images is kept in `folder`,
    and what text encoders that are not taught make of captions; steered: what enters the denoiser beside captions;
    further: files that this is made of."""

    def __init__(
        self,
        recipe: TeachingRecipe,
        placement: Placement,
        base: Base,
        pupil: Pupil,
        images: TeachingSet,
        folder: Path,
        steered: Steered = unsteered,
        further: Sequence[Path] = (),
    ) -> None:
        self._steered, self._further = steered, further
        self.recipe, self.placement, self.base, self.pupil, self.images = recipe, placement, base, pupil, images
        self._weighting = recipe.loss.weighting(base.parameterization)
        self._optimizers = grouped(pupil.groups, recipe.optim)
        self._descent = Descent(self._optimizers, recipe.optim.clip, recipe.run.accumulate, placement.world)
        if recipe.run.checkpointing:
            for net in base.networks.values():
                recomputed(net)
        self._extra = {"model": base.checkpoint.sha256()}  # once: the file may be another one when the run is saved
        self._inpaints = sees_holes(base)
        self._latents: OrderedDict[Excerpt, tuple[Tensor, Tensor]] = OrderedDict()
        with torch.no_grad():
            empty = states_of(base, base.encoder, [""])
        self._captions = None if pupil.reads else KeptCaptions(base, empty, folder / TEXTS)
        with pupil.at_work() as encoder:
            self._chunks = chunks_of(encoder, images.texts)
        self._cache, self._encoder = Cache.open(folder / LATENTS), encoder_digest(base.vae)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return self.pupil.nets

    @property
    def aids(self) -> Mapping[str, nn.Module]:
        return {}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return (*self.base.networks.values(), self.base.vae)

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return self._optimizers

    @property
    def identity(self) -> str:
        return f"{digest(self.recipe)}-{self.images.fingerprint(self._further)}"

    @property
    def maker(self) -> Callable[[int], tuple[Excerpt, ...]]:
        return StepExcerpts(self.images, self.placement.world)

    def begin(self) -> None:
        """Everything begins with the base, which is loaded."""

    def update(self, step: int, batch: tuple[Excerpt, ...], /) -> Mapping[str, Tensor]:
        noised, world, seed = self._noised(step, batch), self.placement.world, self.recipe.run.seed
        places = range(len(batch) * world.size)[world.rows(len(batch) * world.size)]

        def losses(rows: slice) -> AbstractContextManager[Tensor]:
            return self._learning(noised.rows(rows), batch[rows], Draw(seed, step, places[rows]))

        return self._descent.step(len(batch), losses)

    def count(self, batch: tuple[Excerpt, ...], /) -> int:
        return len(batch)

    def dry(self, batch: tuple[Excerpt, ...], /) -> Tensor:
        draw = Draw(self.recipe.run.seed, 0, range(1))
        with self._learning(self._noised(0, batch).rows(slice(1)), batch[:1], draw) as losses:
            return losses.mean()

    @contextmanager
    def _learning(self, noised: Noised, batch: Sequence[Excerpt], draw: Draw) -> Generator[Tensor]:
        """The losses (B,); inside, gradients reach what is trained."""
        with self.pupil.at_work(draw) as encoder:
            yield noised.weights * self._losses(noised, self._conditioning(encoder, batch), batch)

    def _noised(self, step: int, batch: tuple[Excerpt, ...]) -> Noised:
        """What is drawn for the whole batch, and this process's share of it."""
        device, recipe, world = self.placement.device, self.recipe, self.placement.world
        seed = recipe.run.seed
        mean, deviation = self._posterior(batch)
        shape = (len(mean) * world.size, *mean.shape[1:])
        clean = mean + deviation * world.own(randomness.normal(shape, seed, "posterior", step)).to(device)
        noise = world.own(noises.drawn(shape, recipe.noise, seed, step)).to(device)
        beside = noises.disturbance(shape, recipe.noise, seed, step)
        times = objective.shifted(timesteps.drawn(shape[0], recipe.times, seed, step), recipe.loss.time_shift)
        t = objective.indices(world.own(times), len(self.base.levels.sigmas)).to(device)
        seen = None if beside is None else world.own(beside).to(device)
        own = (clean, noise, seen, t, self._weights(batch), self._masks(batch, mean))
        return Noised(*own, self._beside(batch, step) if self._inpaints else None)

    def _beside(self, batch: Sequence[Excerpt], step: int) -> Tensor:
        """What an inpainting model sees of images beside their latents, with holes that are drawn anew each step."""
        seen = to_pixels(np.stack([pixels(own) for own in batch]), self.placement.device)
        world, seed = self.placement.world, self.recipe.run.seed
        drawn = world.own(holes(len(batch) * world.size, seen.shape[2], seen.shape[3], seed, step))
        return beside(self.base, seen, drawn.to(seen.device))

    def _losses(self, noised: Noised, cond: Conditioning, batch: Sequence[Excerpt]) -> Tensor:
        """Of each excerpt: (B,)."""
        base, cond = self.base, replace(cond, channels=noised.channels)
        none = torch.zeros(len(batch), dtype=torch.bool)

        def net(x: Tensor, time: Tensor) -> Tensor:
            return predict(base.net, x, time, cond, self._steered(batch, x, time, cond, none))

        sigma = base.levels.sigmas.to(noised.t.device)[noised.t]
        seeing = noises.perturbed(net, base.parameterization, sigma, noised.disturbance)
        arguments = (base.levels, noised.clean, noised.noise, noised.t, self._weighting)
        with self.placement.autocast():
            return objective.loss(seeing, base.parameterization, *arguments, mask=noised.mask)

    def _weights(self, batch: Sequence[Excerpt]) -> Tensor:
        """Of the losses, whose mean is taken: diffusers adds the means of either half of the batch."""
        halves = self.recipe.loss.prior == "diffusers" and any(own.is_class for own in batch)
        weights = torch.tensor([own.weight for own in batch], device=self.placement.device)
        return 2 * weights if halves else weights

    # Of an image: its latent, and what the network is conditioned on.

    def _posterior(self, batch: Sequence[Excerpt]) -> tuple[Tensor, Tensor]:
        found = [self._of_one(replace(own, caption="", weight=1.0, is_class=False, mask=None)) for own in batch]
        mean, deviation = (torch.cat(parts) for parts in zip(*found, strict=True))
        return mean, deviation

    def _of_one(self, excerpt: Excerpt) -> tuple[Tensor, Tensor]:
        """Mean and deviation of its latent: (1, C, h, w) each."""
        if excerpt not in self._latents:
            self._latents[excerpt] = self._encoded(excerpt)
            size = 2 * self._latents[excerpt][0].nbytes
            while len(self._latents) > max(1, CACHED // size):
                self._latents.popitem(last=False)
        self._latents.move_to_end(excerpt)
        return self._latents[excerpt]

    def _encoded(self, excerpt: Excerpt) -> tuple[Tensor, Tensor]:
        """Kept on disk, unless every step sees another part of the image."""

        def made() -> dict[str, Any]:
            found = self.base.posterior(to_pixels(pixels(excerpt)[None], self.placement.device))
            return {name: part.float().cpu().numpy() for name, part in zip(names, found, strict=True)}

        names = ("mean", "deviation")
        arrays = made() if excerpt.is_drawn else self._cache.arrays(excerpt_key(excerpt, self._encoder), names, made)
        mean, deviation = (torch.from_numpy(np.array(arrays[name])).to(self.placement.device) for name in names)
        return mean, deviation

    def _masks(self, batch: Sequence[Excerpt], mean: Tensor) -> Tensor | None:
        """(B, 1, h, w), 0 to 1; None where everything counts."""
        found = [mask(own) for own in batch]
        if all(own is None for own in found):
            return None
        side = (mean.shape[-2], mean.shape[-1])
        rows = [
            torch.ones(1, 1, *side) if own is None else F.adaptive_avg_pool2d(torch.from_numpy(own)[None, None], side)
            for own in found
        ]
        return torch.cat(rows).to(mean.device)

    def _conditioning(self, encoder: TextTowers, batch: Sequence[Excerpt]) -> Conditioning:
        captions = [caption_of(own) for own in batch]
        if self._captions is None:
            with self.placement.autocast():
                return conditioning_of(self.base, encoder, captions, self._chunks)
        return self._captions(captions, self._chunks)

    # A look at what has been learned.

    def validate(self) -> Validation:
        """The loss of the first training images at the same noise always, and images of the recipe's prompts."""
        numbers, prompts = {"fixed": self._fixed()}, self.recipe.samples
        if not prompts:
            return Validation(numbers, {})
        images = sheet(list(to_images(self.generate(prompts))), list(prompts), columns=min(4, len(prompts)))
        return Validation(numbers, {"images": images})

    @torch.no_grad()
    def _fixed(self) -> float:
        batch = self._first(MEASURED)
        clean, _ = self._posterior(batch)
        ones, counts = torch.ones(len(batch), device=clean.device), self._masks(batch, clean)
        channels = self._beside(batch, 0) if self._inpaints else None
        with self.pupil.at_work() as encoder:
            cond = self._conditioning(encoder, batch)

            def losses(rows: slice, noise: Tensor, t: Tensor) -> Tensor:
                chosen = Noised(clean, clean, None, t, ones, counts, channels).rows(rows)
                return self._losses(replace(chosen, noise=noise, t=t), _rows(cond, rows), batch[rows])

            return fixed_loss(losses, clean, len(self.base.levels.sigmas), self.recipe.run.batch)

    def _first(self, count: int) -> tuple[Excerpt, ...]:
        """Training images of the first step, at most so many."""
        return tuple(own for own in self.images.excerpts(0) if not own.is_class)[:count]

    @torch.no_grad()
    def generate(self, prompts: Sequence[str]) -> Tensor:
        """Pixels (B, 3, H, W) of prompts, by what has been learned as it is, steered as training images are."""
        base, side = self.base, side_of(self.recipe, self.base.checkpoint)
        place = side // base.checkpoint.latent.factor
        noise = randomness.normal((len(prompts), base.checkpoint.latent.channels, place, place), 0, "validation")
        first = self._first(len(prompts))
        shown = tuple(first[number % len(first)] for number in range(len(prompts)))
        captions = [Caption(text, side, side) for text in (*[""] * len(prompts), *prompts)]
        with self._reading() as encoder:
            cond = replace(conditioning_of(base, encoder, captions), channels=all_new(base, 2 * len(prompts), side))
            scale = base.checkpoint.defaults.cfg_scale
            noise = noise.to(self.placement.device)
            negative = torch.arange(2 * len(prompts)) < len(prompts)

            def net(x: Tensor, t: Tensor) -> Tensor:
                return predict(base.net, x, t, cond, self._steered((*shown, *shown), x, t, cond, negative))

            x = sampled(net, base.parameterization, base.levels, noise, scale)
        return base.pixels(x)

    @contextmanager
    def _reading(self) -> Generator[TextTowers]:
        with self.pupil.at_work() as encoder, self.placement.autocast():
            yield encoder

    def extra(self) -> Mapping[str, Any]:
        return self._extra


def caption_of(excerpt: Excerpt) -> Caption:
    """Its words, and the sizes that XL's network is conditioned on: of the original, and where the part was cut out."""
    (width, height), (across, down) = excerpt.size, excerpt.original
    left = excerpt.scaled[0] - width - excerpt.left if excerpt.flipped else excerpt.left
    return Caption(excerpt.caption, height, width, Said(original=(down, across), top=excerpt.top, left=left))


def _rows(cond: Conditioning, chosen: slice) -> Conditioning:
    pooled, sizes = (None if part is None else part[chosen] for part in (cond.pooled, cond.sizes))
    return Conditioning(cond.tokens[chosen], pooled, sizes)
