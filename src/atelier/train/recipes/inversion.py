"""Textual inversion: a new word, and nothing else, is learned (Gal 2022, arXiv:2208.01618)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from atelier.train.registry import RecipeSpec
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
    from atelier.train.teaching.lessons import check_said, lessons
    from atelier.train.teaching.parts import base_for

    base = base_for(recipe, placement, trains_it=False)
    seen = lessons(recipe, base, folder, placement.world)
    check_said(recipe.word, seen)
    return TeachingTask(recipe, placement, base, _pupil(recipe, base), seen, folder)


def _export(recipe: InversionRecipe, folder: Path) -> Path:
    from atelier.train.loop import HERE
    from atelier.train.teaching.lessons import lessons
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.writing import write_word

    base = base_for(recipe, HERE, trains_it=False)
    return write_word(folder, recipe, base, _pupil(recipe, base), lessons(recipe, base, folder, HERE.world))


INVERSION = RecipeSpec(
    name="inversion",
    model=InversionRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="a new word as vectors (textual inversion); writes one small .safetensors file",
    aliases=("textual-inversion",),
    splits=True,
)
SPECS = (INVERSION,)
