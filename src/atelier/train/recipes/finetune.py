"""Teaching a model's own weights: DreamBooth, full fine-tuning, and Custom Diffusion's few layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from atelier.train.registry import RecipeSpec
from atelier.train.teaching.recipe import Targets, TeachingRecipe, Word, check_names

if TYPE_CHECKING:
    from atelier.train.loop import Placement
    from atelier.train.tasks.teaching import TeachingTask


class Weights(Targets, frozen=True):
    """All layers, unless others are chosen."""

    layers: str | tuple[str, ...] = "all"
    text_layers: tuple[str, ...] = (".",)


class FinetuneRecipe(TeachingRecipe, frozen=True):
    """targets: the layers whose weights learn; word: a word that is taught with them. inpainting: whether a model that
    sees the latent alone becomes an inpainting model, which also sees a mask and the rest of the image."""

    kind: Literal["dreambooth"]
    targets: Weights = Weights()
    word: Word = Word()
    inpainting: bool = False

    @model_validator(mode="after")
    def _two_files(self) -> Self:
        check_names(self.name, self.word)
        return self


def _build(recipe: FinetuneRecipe, placement: Placement, folder: Path) -> TeachingTask:
    from atelier.train.tasks.teaching import TeachingTask
    from atelier.train.teaching.inpainting import widened
    from atelier.train.teaching.lessons import check_said, lessons
    from atelier.train.teaching.parts import base_for, layers
    from atelier.train.teaching.pupils import Together, WeightsPupil, WordPupil

    plain = base_for(recipe, placement, trains_it=True)
    seen = lessons(recipe, plain, folder, placement.world)
    base = widened(plain) if recipe.inpainting else plain
    pupil = WeightsPupil(base, layers(recipe.targets, base), recipe.targets.text_rate)
    own = recipe.word
    if not own.word:
        return TeachingTask(recipe, placement, base, pupil, seen, folder)
    check_said(own, seen)
    word = WordPupil(base, own.word, own.vectors, own.like, own.rate)
    return TeachingTask(recipe, placement, base, Together(word, pupil), seen, folder)


def _export(recipe: FinetuneRecipe, folder: Path) -> Path:
    from atelier.train.loop import HERE
    from atelier.train.teaching.inpainting import widened
    from atelier.train.teaching.lessons import lessons
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.pupils import WordPupil
    from atelier.train.teaching.writing import write_model, write_word

    base, own = base_for(recipe, HERE, trains_it=True), recipe.word
    if own.word:
        pupil = WordPupil(base, own.word, own.vectors, own.like, own.rate)
        write_word(folder, recipe, base, pupil, lessons(recipe, base, folder, HERE.world))
    return write_model(folder, recipe, widened(base) if recipe.inpainting else base)


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
