"""The images of a recipe, as every step sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from atelier.errors import BadInput
from atelier.train import randomness
from atelier.train.data.buckets import Buckets, Size
from atelier.train.data.excerpts import Excerpt
from atelier.train.data.subsets import Subset
from atelier.train.data.teaching import TeachingSet, collected
from atelier.train.data.wording import Wording
from atelier.train.folder import writing
from atelier.train.painting import painted
from atelier.train.tasks.images import to_images
from atelier.train.teaching.base import Base, Caption, spoken_to, told
from atelier.train.teaching.inpainting import all_new
from atelier.train.teaching.recipe import TeachingData, TeachingRecipe, Word
from atelier.train.world import World
from atelier.weights.formats.atomic import new_file

CLASS = "class"
"""The folder of a run with images of the class that the model generated."""
AT_ONCE, SMALL = 8, 256
"""Images of the class that are generated together, up to this side in pixels; larger ones one by one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Makes a process's share of a step's excerpts; images of the class stand between the others, so that every share
    has as many of both."""

    lessons: TeachingSet
    world: World

    def __call__(self, step: int) -> tuple[Excerpt, ...]:
        found = self.lessons.excerpts(step)
        own = [e for e in found if not e.is_class]
        others = [e for e in found if e.is_class]
        mixed = [e for pair in zip(own, others, strict=True) for e in pair] if others else own
        return tuple(mixed[self.world.rows(len(mixed))])


def lessons(recipe: TeachingRecipe, base: Base, folder: Path, world: World) -> TeachingSet:
    """The images of the recipe. Those of the class that are still missing are generated first, in `folder`/class.

    Raises BadFile, BadInput naming what cannot be used, StorageFull.
    """
    data, side = recipe.data, side_of(recipe, base)
    classes = Path(data.class_source) if data.class_source else None
    if data.class_images:
        classes = folder / CLASS
        if world.first:
            generate_class(recipe, base, classes, side)
        world.meet()
    class_words = next(iter(data.class_captions), "")
    described = collected(Path(data.source), _subset(data, _shape(data, side, base)), classes, class_words)
    if described.batch not in {None, recipe.run.batch}:
        told = f"{data.source} says batch_size = {described.batch}"
        raise BadInput(f"run.batch = {recipe.run.batch}: {told}: give the same in both")
    return TeachingSet.of(
        described.examples,
        batch=recipe.run.batch,
        seed=recipe.run.seed,
        steps=recipe.run.steps,
        class_weight=recipe.loss.prior_weight,
    )


def check_said(word: Word, lessons: TeachingSet) -> None:
    """Raises BadInput where a word is taught that no caption says: nothing would be learned of it."""
    own = word.word.casefold()
    for example in lessons.instances:
        wording = example.subset.wording
        if own in f"{wording.prefix} {example.caption} {wording.suffix}".casefold():
            return
    raise BadInput(
        f"word.word = {word.word!r}: no caption says it; write it into the captions, or give data.prefix or, where "
        "there are no captions, data.caption"
    )


def side_of(recipe: TeachingRecipe, base: Base) -> int:
    """Pixels along a side of the training images. Raises BadInput for a size that the networks cannot halve."""
    side = recipe.data.size or base.checkpoint.size
    if side % base.step:
        raise BadInput(f"data.size = {side}: not divisible by {base.step}, as {base.checkpoint.name} needs it")
    return side


def _shape(data: TeachingData, side: int, base: Base) -> Buckets | Size:
    step = min(64, side // 4 // base.step * base.step or base.step)
    return Buckets.of(side, step) if data.buckets else (side, side)


def _subset(data: TeachingData, shape: Buckets | Size) -> Subset:
    wording = Wording(data.prefix, data.suffix, data.dropout, shuffle=data.shuffle, keep=data.keep)
    return Subset(
        shape,
        words=data.caption,
        wording=wording,
        flip=data.flip,
        random_crop=data.random_crop,
        alpha_mask=data.alpha_mask,
        masks=Path(data.masks) if data.masks else None,
    )


def generate_class(recipe: TeachingRecipe, base: Base, folder: Path, side: int) -> None:
    """Writes the images of the class, with their captions, that are not there yet; each is a function of its number."""
    count, captions = recipe.data.class_images, recipe.data.class_captions
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        missing = [n for n in range(count) if not (folder / f"{n:05d}.png").is_file()]
        at_once = AT_ONCE if side <= SMALL else 1
        for first in range(0, len(missing), at_once):
            numbers = missing[first : first + at_once]
            texts = [captions[n % len(captions)] for n in numbers]
            for number, text, image in zip(numbers, texts, generated(base, texts, numbers, side), strict=True):
                (folder / f"{number:05d}.txt").write_text(text, encoding="utf-8")
                with new_file(folder / f"{number:05d}.png") as file:
                    image.save(file, format="PNG")


@torch.no_grad()
def generated(base: Base, texts: list[str], numbers: list[int], side: int) -> list[Image.Image]:
    """Images of these texts by the base as it is, at its own CFG scale; `numbers` are their seeds."""
    place, model = side // base.checkpoint.latent.factor, base.checkpoint
    noise = torch.cat([randomness.normal((1, model.latent.channels, place, place), "class", n) for n in numbers])
    captions = [Caption(text, side, side) for text in (*[""] * len(texts), *texts)]
    said = replace(told(base, base.encoder, captions), channels=all_new(base, len(captions), side))
    clean = painted(
        lambda x, t: spoken_to(base.net, x, t, said),
        base.parameterization,
        base.levels,
        noise.to(base.device),
        model.defaults.cfg_scale,
    )
    return [Image.fromarray(image) for image in to_images(base.pixels(clean))]
