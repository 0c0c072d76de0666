"""Teaching a model's own weights: DreamBooth, full fine-tuning, and Custom Diffusion's few layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from atelier.train.registry import RecipeSpec
from atelier.train.teaching.preparing import prepared
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
    from atelier.train.teaching.parts import base_for, layers
    from atelier.train.teaching.pupils import Together, WeightsPupil, WordPupil
    from atelier.train.teaching.training_images import check_word, training_images

    plain = base_for(recipe, placement, trains_it=True)
    images = training_images(recipe, plain.checkpoint, folder)
    base = widened(plain) if recipe.inpainting else plain
    pupil = WeightsPupil(base, layers(recipe.targets, base.checkpoint), recipe.targets.text_rate)
    own = recipe.word
    if not own.word:
        return TeachingTask(recipe, placement, base, pupil, images, folder)
    check_word(own, images)
    word = WordPupil(base, own.word, own.vectors, own.like, own.rate)
    return TeachingTask(recipe, placement, base, Together(word, pupil), images, folder)


def _export(recipe: FinetuneRecipe, folder: Path) -> Path:
    from atelier.train.teaching.inpainting import wide_channels
    from atelier.train.teaching.parts import model_for
    from atelier.train.teaching.training_images import training_images
    from atelier.train.teaching.writing import write_model, write_word

    model, word = model_for(recipe), recipe.word.word
    images = training_images(recipe, model, folder)
    if word:
        write_word(folder, recipe, model, word, images)
    channels = wide_channels(model) if recipe.inpainting else model.ends.in_channels
    return write_model(folder, recipe, model, channels, images)


DREAMBOOTH = RecipeSpec(
    name="dreambooth",
    model=FinetuneRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="a model's own weights, with images of the class or without; writes the whole model as one file",
    aliases=("finetune",),
    splits=True,
    prepare=prepared,
)
SPECS = (DREAMBOOTH,)
