"""Training CLIP: the towers of texts and of images, and the vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier.train.recipe import Data, Positive, Recipe, Table, divides
from atelier.train.registry import RecipeSpec

if TYPE_CHECKING:
    from atelier.train.loop import Placement
    from atelier.train.tasks.clip import ClipTask


class ClipModel(Table, frozen=True):
    """Both towers. vocab bounds the size of the BPE vocabulary trained on the captions (514 has no merges)."""

    vocab: Annotated[int, Field(ge=514, le=65_536)] = 2048
    positions: Annotated[int, Field(ge=3, le=10_000)] = 77
    width: Positive = 192
    layers: Positive = 4
    heads: Positive = 4
    patch: Positive = 8
    vision_width: Positive = 192
    vision_layers: Positive = 4
    vision_heads: Positive = 4
    embedding: Positive = 128
    captions: Positive = 20_000


class ClipRecipe(Recipe, frozen=True):
    """begin: a finished CLIP, a run folder or a model, whose text tower and vocabulary are kept as they are; only a new
    vision tower is learned (Zhai 2022, arXiv:2111.07991, with the towers' parts exchanged)."""

    kind: Literal["clip"]
    begin: str = ""
    data: Data = Data()
    model: ClipModel

    @model_validator(mode="after")
    def _fits(self) -> Self:
        divides("data.size", self.data.size, "model.patch", self.model.patch)
        divides("model.width", self.model.width, "model.heads", self.model.heads)
        divides("model.vision_width", self.model.vision_width, "model.vision_heads", self.model.vision_heads)
        return self


def _build(recipe: ClipRecipe, placement: Placement, folder: Path) -> ClipTask:
    from atelier.train.tasks.clip import ClipTask

    return ClipTask(recipe, placement, folder)


def _export(recipe: ClipRecipe, folder: Path) -> Path:
    from atelier.train.runs import export_clip

    return export_clip(folder, recipe)


CLIP = RecipeSpec(
    name="clip",
    model=ClipRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="the text and the image tower of CLIP, and their vocabulary",
)
SPECS = (CLIP,)
