"""Images of the class, which a model generates before it is taught, so that it does not forget what it knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from atelier.request.events import ClassImageSaved
from atelier.train import randomness
from atelier.train.folder import writing
from atelier.train.loop import Placement
from atelier.train.sampling import sampled
from atelier.train.tasks.images import to_images
from atelier.train.teaching.base import Base, Caption, conditioning_of, opened, predict
from atelier.train.teaching.inpainting import all_new
from atelier.train.teaching.parts import base_for
from atelier.train.teaching.recipe import TeachingRecipe
from atelier.train.teaching.training_images import class_folder, side_of
from atelier.weights.formats.atomic import new_file

AT_ONCE, SMALL = 8, 256
"""Images of the class that are generated together, up to this side in pixels; larger ones one by one."""


def generate_class_images(recipe: TeachingRecipe, placement: Placement, run: Path) -> Iterator[ClassImageSaved]:
    """Writes the images of the class, with their captions, that are not in their folder of the run yet; each is a
    function of its number. Of several processes the first does.

    Raises BadFile, BadInput, StorageFull.
    """
    if not placement.world.first:
        return
    model = opened(recipe.base)
    count, folder, side = recipe.data.class_images, class_folder(recipe, model, run), side_of(recipe, model)
    missing = [n for n in range(count) if not (folder / f"{n:05d}.png").is_file()]
    if not missing:
        return
    base, done = base_for(_as_it_is(recipe), placement, trains_it=False), count - len(missing)
    at_once = AT_ONCE if side <= SMALL else 1
    for first in range(0, len(missing), at_once):
        for path in _written(recipe, base, folder, missing[first : first + at_once], side):
            done += 1
            yield ClassImageSaved(done, count, path)


def _as_it_is(recipe: TeachingRecipe) -> TeachingRecipe:
    """The recipe without levels of noise that the model has not been taught yet."""
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"zero_snr": False})})


def _written(recipe: TeachingRecipe, base: Base, folder: Path, numbers: list[int], side: int) -> list[Path]:
    captions = recipe.data.class_captions
    texts, paths = [captions[n % len(captions)] for n in numbers], [folder / f"{n:05d}.png" for n in numbers]
    images = generated(base, texts, numbers, side)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text, image in zip(paths, texts, images, strict=True):
            path.with_suffix(".txt").write_text(text, encoding="utf-8")
            with new_file(path) as file:
                image.save(file, format="PNG")
    return paths


@torch.no_grad()
def generated(base: Base, texts: list[str], numbers: list[int], side: int) -> list[Image.Image]:
    """Images of these texts by the base as it is, at its own CFG scale; `numbers` are their seeds."""
    place, model = side // base.checkpoint.latent.factor, base.checkpoint
    noise = torch.cat([randomness.normal((1, model.latent.channels, place, place), "class", n) for n in numbers])
    captions = [Caption(text, side, side) for text in (*[""] * len(texts), *texts)]
    cond = replace(conditioning_of(base, base.encoder, captions), channels=all_new(base, len(captions), side))
    clean = sampled(
        lambda x, t: predict(base.net, x, t, cond),
        base.parameterization,
        base.levels,
        noise.to(base.device),
        model.defaults.cfg_scale,
    )
    return [Image.fromarray(image) for image in to_images(base.pixels(clean))]
