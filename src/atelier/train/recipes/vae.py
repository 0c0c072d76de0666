"""Training the autoencoder between images and latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier.train.recipe import Data, NotNegative, Positive, Rate, Recipe, Table, Weight, divides
from atelier.train.registry import RecipeSpec

if TYPE_CHECKING:
    from atelier.train.loop import Placement
    from atelier.train.tasks.vae import VaeTask


class VaeModel(Table, frozen=True):
    """widths: channels per level, each level half the size of the one before; groups: of the group norms."""

    latent: Positive = 4
    widths: Annotated[tuple[Positive, ...], Field(min_length=1)]
    blocks: Positive = 1
    groups: Positive = 8
    mid_attention: bool = True


class VaeLoss(Table, frozen=True):
    """Weights of the terms; the adversarial one starts at step gan_start and is off at weight 0.

    noise: the decoder reads latents with noise of up to this share of their standard deviation.
    """

    l1: Weight = 1.0
    gradient: Weight = 1.0
    kl: Weight = 1e-6
    noise: Weight = 0.0
    gan: Weight = 0.0
    gan_start: NotNegative = 0
    gan_rate: Rate = 2e-4
    gan_width: Annotated[int, Field(gt=0, multiple_of=4)] = 32


class VaeRecipe(Recipe, frozen=True):
    """begin: a finished autoencoder to go on from, a run folder or a model; learn: "decoder" leaves its latents as they
    are."""

    kind: Literal["vae"]
    begin: str = ""
    learn: Literal["all", "decoder"] = "all"
    data: Data = Data()
    model: VaeModel
    loss: VaeLoss = VaeLoss()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        divides("data.size", self.data.size, "the autoencoder's factor", 2 ** (len(self.model.widths) - 1))
        for width in self.model.widths:
            divides("model.widths", width, "model.groups", self.model.groups)
        if self.learn == "decoder" and not self.begin:
            raise ValueError('learn = "decoder" needs begin, the run or model whose latents are kept')
        return self


def _build(recipe: VaeRecipe, placement: Placement, _folder: Path) -> VaeTask:
    from atelier.train.tasks.vae import VaeTask

    return VaeTask(recipe, placement)


def _export(recipe: VaeRecipe, folder: Path) -> Path:
    from atelier.train.runs import export_vae

    return export_vae(folder, recipe)


VAE = RecipeSpec(
    name="vae",
    model=VaeRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="the autoencoder between images and latents",
)
SPECS = (VAE,)
