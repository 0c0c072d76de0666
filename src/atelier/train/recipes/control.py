"""Teaching a model to be controlled: a ControlNet, or a Control-LoRA, from images and their hints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier.train.recipe import Positive, Table
from atelier.train.registry import RecipeSpec
from atelier.train.teaching.recipe import TeachingRecipe, check_no_class_images

if TYPE_CHECKING:
    from atelier.train.loop import Placement
    from atelier.train.tasks.teaching import TeachingTask
    from atelier.train.teaching.base import Base
    from atelier.train.teaching.control import ControlPupil


class ControlTable(Table, frozen=True):
    """annotator: what draws the hint of a training image; or hints: a folder with a hint for each, a PNG of its name.
    options: of the annotator. rank: of low-rank changes of the model's encoder (a Control-LoRA), 0 for a whole
    ControlNet; widths: of the layers that read the hint, each but the first behind half the resolution."""

    annotator: str = ""
    hints: str = ""
    options: dict[str, float] = Field(default_factory=dict[str, float])
    rank: Annotated[int, Field(ge=0, le=1024)] = 0
    widths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (16, 32, 96, 256)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.annotator) == bool(self.hints):
            raise ValueError("control: give an annotator, or a folder of hints")
        if self.hints and self.options:
            raise ValueError("control.options: are an annotator's, and hints in a folder are drawn: leave them out")
        return self


class ControlRecipe(TeachingRecipe, frozen=True):
    """control: what is learned, and from which hints."""

    kind: Literal["control"]
    control: ControlTable

    @model_validator(mode="after")
    def _class(self) -> Self:
        check_no_class_images(self.data)
        return self

    @property
    def type(self) -> str:
        """What the file says that its hints are."""
        return self.control.annotator or Path(self.control.hints).name


def _pupil(recipe: ControlRecipe, base: Base) -> ControlPupil:
    import torch

    from atelier.errors import BadInput
    from atelier.train.teaching.control import ControlPupil, Hints
    from atelier.vision.annotate import annotator, completed, ready
    from atelier.vision.annotating import NeedsFile

    own, root = recipe.control, Path(recipe.data.source)
    factor = base.checkpoint.latent.factor
    if 2 ** (len(own.widths) - 1) != factor:
        raise BadInput(
            f"control.widths: {base.checkpoint.name} needs {factor.bit_length()} of them, not {len(own.widths)}"
        )
    if own.hints:
        hints = Hints(None, {}, Path(own.hints), root)
    else:
        spec = annotator(own.annotator)
        if isinstance(spec.draw, NeedsFile):
            raise BadInput(
                f"control.annotator: {spec.name} is a network in a file: draw the hints with `atelier annotate`, and "
                "give their folder as control.hints"
            )
        maker = ready(spec, lambda _: None, torch.device("cpu"))
        hints = Hints(maker, completed(spec, own.options), None, root)
    return ControlPupil(base, hints, own.rank, own.widths, recipe.run.seed)


def _build(recipe: ControlRecipe, placement: Placement, folder: Path) -> TeachingTask:
    from atelier.train.tasks.teaching import TeachingTask
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.training_images import training_images

    base = base_for(recipe, placement, trains_it=False)
    pupil, images = _pupil(recipe, base), training_images(recipe, base.checkpoint, folder)
    hints = pupil.hints.files(images.paths)
    return TeachingTask(recipe, placement, base, pupil, images, folder, pupil.ports, hints)


def _export(recipe: ControlRecipe, folder: Path) -> Path:
    from atelier.train.loop import HERE
    from atelier.train.teaching.parts import base_for
    from atelier.train.teaching.training_images import training_images
    from atelier.train.teaching.writing import write_control

    base = base_for(recipe, HERE, trains_it=False)
    images = training_images(recipe, base.checkpoint, folder)
    return write_control(folder, recipe, base.checkpoint, _pupil(recipe, base), images)


CONTROL = RecipeSpec(
    name="control",
    model=ControlRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="a ControlNet beside a model, from images and their hints; writes a ControlNet or a Control-LoRA",
    aliases=("controlnet",),
    splits=True,
)
SPECS = (CONTROL,)
