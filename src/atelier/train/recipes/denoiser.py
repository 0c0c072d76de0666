"""Training the denoiser: a U-Net on latents, and with it the whole model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier.train.recipe import (
    Data,
    Noise,
    NotNegative,
    Optim,
    Positive,
    Rate,
    Recipe,
    Share,
    Table,
    Times,
    Weight,
    divides,
)
from atelier.train.registry import RecipeSpec

if TYPE_CHECKING:
    from atelier.train.loop import Placement
    from atelier.train.objective import Weighting
    from atelier.train.tasks.denoiser import DenoiserTask


class DenoiserOptim(Optim, frozen=True):
    """text_gain: how strongly Muon moves the layers that read the text, against all others; 0: as any layer.

    Above 0, their steps are equal in all directions of the text states rather than largest where these are."""

    text_gain: Weight = 0.0


class UNetModel(Table, frozen=True):
    """widths, depth (transformer blocks) and heads: one number per level; groups: of the group norms."""

    widths: Annotated[tuple[Positive, ...], Field(min_length=1)]
    blocks: Positive = 2
    depth: tuple[NotNegative, ...]
    mid_depth: Positive = 1
    heads: tuple[Positive, ...]
    groups: Positive = 16


class DenoiserLoss(Table, frozen=True):
    """prediction: what the network learns to say; drop: share of captions emptied; time_shift: see objective.shifted.

    The error of the clean latent weighs as much as its signal-to-noise ratio, snr_floor at least and snr_gamma at most;
    detail: how much more its fine half weighs, see objective.loss. zero_snr: the last level of noise has no signal.
    """

    prediction: Literal["velocity", "epsilon"] = "velocity"
    zero_snr: bool = False
    snr_floor: Weight = 0.0
    snr_gamma: Rate = 5.0
    detail: Weight = 0.0
    time_shift: Rate = 1.0
    drop: Share = 0.1

    def weighting(self) -> Weighting:
        """What the error of the clean latent weighs at a level of noise."""
        from atelier.train.objective import ClampedSnr

        return ClampedSnr(self.snr_floor, self.snr_gamma)


class DenoiserRecipe(Recipe, frozen=True):
    """vae, clip: the first two trainings, each a run folder or a model; pool: scenes whose latents are kept; shard: how
    many of them lie in a file.

    begin: a run folder (its averaged weights) or a model, with a denoiser of the same shape to go on from; "embedded"
    is the model of this package, here as for vae and clip. cfg_scale: of the samples, and of images by the finished
    model where nobody says another. compile: whether torch.compile makes one program of a step, which takes minutes
    once and needs a C++ compiler.
    """

    kind: Literal["denoiser"]
    begin: str = ""
    vae: str
    clip: str
    pool: Positive = 65_536
    shard: Positive = 512
    cfg_scale: Annotated[float, Field(ge=0, le=100)] = 3.0
    compile: bool = False
    data: Data = Data()
    optim: DenoiserOptim
    model: UNetModel
    loss: DenoiserLoss = DenoiserLoss()
    noise: Noise = Noise()
    times: Times = Times()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        m = self.model
        if self.optim.text_gain and self.optim.kind != "muon":
            raise ValueError('optim.text_gain needs optim.kind = "muon"')
        if self.compile and self.run.checkpointing:
            raise ValueError("compile and run.checkpointing do not go together: set one of them to false")
        if self.loss.zero_snr and self.loss.prediction == "epsilon":
            raise ValueError('loss.zero_snr needs loss.prediction = "velocity": pure noise says nothing about epsilon')
        if self.loss.snr_floor > self.loss.snr_gamma:
            raise ValueError(f"loss.snr_floor: {self.loss.snr_floor} is more than loss.snr_gamma")
        if not len(m.widths) == len(m.depth) == len(m.heads):
            raise ValueError("model.widths, model.depth and model.heads need one number for every level each")
        if m.depth[-1] not in {0, m.mid_depth}:
            raise ValueError(f"model.depth must end in 0 or model.mid_depth ({m.mid_depth}), as diffusers reads it")
        if m.widths[0] % 2:
            raise ValueError(f"model.widths must begin with an even number, not {m.widths[0]}")
        for level, width in enumerate(m.widths):
            divides("model.widths", width, "model.groups", m.groups)
            if m.depth[level] or level == len(m.widths) - 1:
                divides("model.widths", width, "model.heads", m.heads[level])
        return self


def _build(recipe: DenoiserRecipe, placement: Placement, folder: Path) -> DenoiserTask:
    from atelier.train.folder import LATENTS
    from atelier.train.runs import frozen
    from atelier.train.tasks.denoiser import DenoiserTask

    return DenoiserTask(recipe, placement, frozen(Path(recipe.vae), Path(recipe.clip)), folder / LATENTS)


def _export(recipe: DenoiserRecipe, folder: Path) -> Path:
    from atelier.train.runs import export_model

    return export_model(folder, recipe)


DENOISER = RecipeSpec(
    name="denoiser",
    model=DenoiserRecipe,
    build=_build,
    export=_export,
    defaults=Path(__file__).with_suffix(".toml"),
    help="the U-Net on latents; writes the whole model as a diffusers folder",
    splits=True,
)
SPECS = (DENOISER,)
