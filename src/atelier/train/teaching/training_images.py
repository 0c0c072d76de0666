"""The images of a recipe, as every step sees them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadInput
from atelier.train.data.buckets import Buckets, Size
from atelier.train.data.excerpts import Excerpt
from atelier.train.data.subsets import Subset
from atelier.train.data.teaching import TeachingSet, collected, is_description
from atelier.train.data.wording import Wording
from atelier.train.teaching.base import step_of
from atelier.train.teaching.recipe import TeachingData, TeachingRecipe, Word
from atelier.train.world import World

CLASS = "class"
"""The folder of a run that holds those with images of the class that the model generated."""
SAID_THERE = ("flip", "random_crop", "masks", "alpha_mask", "dropout", "shuffle", "keep", "prefix", "suffix")
"""Keys of [data] that a description of the images has words of its own for."""


@dataclass(frozen=True, slots=True)
class StepExcerpts:
    """Makes a process's share of a step's excerpts; images of the class stand between the others, so that every share
    has as many of both."""

    images: TeachingSet
    world: World

    def __call__(self, step: int) -> tuple[Excerpt, ...]:
        found = self.images.excerpts(step)
        own = [e for e in found if not e.is_class]
        others = [e for e in found if e.is_class]
        mixed = [e for pair in zip(own, others, strict=True) for e in pair] if others else own
        return tuple(mixed[self.world.rows(len(mixed))])


def training_images(recipe: TeachingRecipe, model: Checkpoint, folder: Path) -> TeachingSet:
    """The images of the recipe, with those of the class that were generated in the folder of a run.

    Raises BadFile, BadInput naming what cannot be used.
    """
    data, side = recipe.data, side_of(recipe, model)
    classes = Path(data.class_source) if data.class_source else None
    if data.class_images:
        classes = class_folder(recipe, model, folder)
    _check_said_once(data)
    class_words = next(iter(data.class_captions), "")
    described = collected(Path(data.source), _subset(data, _shape(data, side, model)), classes, class_words)
    if described.batch not in {None, recipe.run.batch}:
        problem = f"{data.source} says batch_size = {described.batch}: give the same in both"
        raise BadInput(f"run.batch = {recipe.run.batch}: {problem}")
    return TeachingSet.of(
        described.examples,
        batch=recipe.run.batch,
        seed=recipe.run.seed,
        steps=recipe.run.steps,
        class_weight=recipe.loss.prior_weight,
    )


def _check_said_once(data: TeachingData) -> None:
    """Raises BadInput for what would have no effect, as kohya's TOML says it of each image."""
    if not is_description(Path(data.source)):
        return
    for key in SAID_THERE:
        if (value := getattr(data, key)) != (unset := TeachingData.model_fields[key].default):
            raise BadInput(
                f"data.{key} = {value!r}: {data.source} says how its images are shown; say it there, and set this to "
                f"{unset!r}"
            )


def check_word(word: Word, images: TeachingSet) -> None:
    """Raises BadInput where a word is taught that no caption says: nothing would be learned of it."""
    own = word.word.casefold()
    for example in images.instances:
        wording = example.subset.wording
        if own in f"{wording.prefix} {example.caption} {wording.suffix}".casefold():
            return
    raise BadInput(
        f"word.word = {word.word!r}: no caption says it; write it into the captions, or give data.prefix or, where "
        "there are no captions, data.caption"
    )


def side_of(recipe: TeachingRecipe, model: Checkpoint) -> int:
    """Pixels along a side of the training images. Raises BadInput for a size that the networks cannot halve."""
    side, step = recipe.data.size or model.size, step_of(model)
    if side % step:
        raise BadInput(f"data.size = {side}: not divisible by {step}, as {model.name} needs it")
    return side


def class_folder(recipe: TeachingRecipe, model: Checkpoint, run: Path) -> Path:
    """Where the images of the class lie that the model generates: those of other models, captions, sizes and layers of
    the text encoder lie elsewhere, so that a run that begins anew with other ones does not take them over. Raises
    BadInput."""
    skipped = [recipe.clip_skip] if recipe.clip_skip > 1 else []
    told = json.dumps([model.sha256(), recipe.data.class_captions, side_of(recipe, model), *skipped])
    return run / CLASS / hashlib.sha256(told.encode()).hexdigest()[:16]


def _shape(data: TeachingData, side: int, model: Checkpoint) -> Buckets | Size:
    least = step_of(model)
    step = min(64, side // 4 // least * least or least)
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
