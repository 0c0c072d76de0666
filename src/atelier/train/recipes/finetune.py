"""Teaching a model's own weights: DreamBooth, full fine-tuning, and Custom Diffusion's few layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from atelier.train.registry import RecipeSpec
from atelier.train.teaching.recipe import Targets, TeachingRecipe, Word

if TYPE_CHECKING:
    from atelier.train.loop import Placement
    from atelier.train.tasks.teaching import TeachingTask


class FinetuneRecipe(TeachingRecipe, frozen=True):
    """targets: which weights learn, as patterns in our own names of them; word: a word that is taught with them."""

    kind: Literal["dreambooth"]
    targets: Targets = Targets(layers="all", text_layers=(".",))
    word: Word = Word()


def _build(recipe: FinetuneRecipe, placement: Placement, folder: Path) -> TeachingTask:
    from atelier.train.tasks.teaching import TeachingTask
    from atelier.train.teaching.lessons import lessons
    from atelier.train.teaching.parts import base_for, layers
    from atelier.train.teaching.pupils import Together, WeightsPupil, WordPupil

    base = base_for(recipe, placement, trains_it=True)
    seen = lessons(recipe, base, folder, placement.world)
    pupil = WeightsPupil(base, layers(recipe.targets, base), recipe.targets.text_rate)
    own = recipe.word
    word = WordPupil(base, own.word, own.vectors, own.like, own.rate) if own.word else None
    return TeachingTask(recipe, placement, base, Together(word, pupil) if word else pupil, seen, folder)


def _export(recipe: FinetuneRecipe, folder: Path) -> Path:
    from atelier.train.loop import HERE
    from atelier.train.teaching.lessons import lessons
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.pupils import WordPupil
    from atelier.train.teaching.writing import write_model, write_word

    base, own = base_for(recipe, HERE, trains_it=True), recipe.word
    if own.word:
        pupil = WordPupil(base, own.word, own.vectors, own.like, own.rate)
        write_word(folder, recipe, base, pupil, lessons(recipe, base, folder, HERE.world))
    return write_model(folder, recipe, base)


DREAMBOOTH = RecipeSpec(
    name="dreambooth",
    model=FinetuneRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="a model's own weights, with images of the class or without; writes the whole model as one file",
    aliases=("finetune",),
    splits=True,
)
SPECS = (DREAMBOOTH,)
