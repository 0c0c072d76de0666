"""Textual inversion: a new word, and nothing else, is learned (Gal 2022, arXiv:2208.01618)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from atelier.train.registry import RecipeSpec
from atelier.train.teaching.preparing import prepared
from atelier.train.teaching.recipe import TeachingRecipe, Word

if TYPE_CHECKING:
    from atelier.train.loop import Placement
    from atelier.train.tasks.teaching import TeachingTask
    from atelier.train.teaching.base import Base
    from atelier.train.teaching.pupils import WordPupil


class InversionRecipe(TeachingRecipe, frozen=True):
    """word: what is learned."""

    kind: Literal["inversion"]
    word: Word

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.word.word.strip():
            raise ValueError('word.word: say which word is to be learned, such as "zwx"')
        return self


def _pupil(recipe: InversionRecipe, base: Base) -> WordPupil:
    from atelier.train.teaching.pupils import WordPupil

    own = recipe.word
    return WordPupil(base, own.word, own.vectors, own.like, own.rate)


def _build(recipe: InversionRecipe, placement: Placement, folder: Path) -> TeachingTask:
    from atelier.train.tasks.teaching import TeachingTask
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.training_images import check_word, training_images

    base = base_for(recipe, placement, trains_it=False)
    images = training_images(recipe, base.checkpoint, folder)
    check_word(recipe.word, images)
    return TeachingTask(recipe, placement, base, _pupil(recipe, base), images, folder)


def _export(recipe: InversionRecipe, folder: Path) -> Path:
    from atelier.train.teaching.base import opened
    from atelier.train.teaching.training_images import training_images
    from atelier.train.teaching.writing import write_word

    model = opened(recipe.base)
    return write_word(folder, recipe, model, recipe.word.word, training_images(recipe, model, folder))


INVERSION = RecipeSpec(
    name="inversion",
    model=InversionRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="a new word as vectors (textual inversion); writes one small .safetensors file",
    aliases=("textual-inversion",),
    splits=True,
    prepare=prepared,
)
SPECS = (INVERSION,)
