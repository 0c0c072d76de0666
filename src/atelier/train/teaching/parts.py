"""From a recipe to what is taught with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadInput
from atelier.families.words import CLIP_WORDS
from atelier.train.teaching.base import Base, base_of, denoiser_of, opened
from atelier.train.teaching.recipe import Targets, TeachingRecipe
from atelier.weights.cast import precision

if TYPE_CHECKING:
    from atelier.train.loop import Placement


def base_for(recipe: TeachingRecipe, placement: Placement, *, trains_it: bool) -> Base:
    """The networks that the recipe teaches; in float32 where their own weights learn. Raises BadFile, BadInput."""
    kept = placement.dtype if recipe.base_dtype == "auto" else precision(recipe.base_dtype)
    dtype = torch.float32 if trains_it else kept
    return base_of(model_for(recipe), placement.device, dtype, recipe.clip_skip)


def model_for(recipe: TeachingRecipe) -> Checkpoint:
    """The model that the recipe teaches, with the levels of noise that it is taught. Raises BadFile, BadInput."""
    model = opened(recipe.base)
    if not recipe.loss.zero_snr or model.facts.zero_snr:
        return model
    if model.facts.prediction != "velocity":
        raise BadInput(
            f"loss.zero_snr: {model.name} predicts {model.facts.prediction}, which says nothing of an image in noise "
            "alone; give a model that predicts velocity"
        )
    return replace(model, facts=replace(model.facts, zero_snr=True))


def layers(targets: Targets, model: Checkpoint) -> Mapping[str, tuple[str, ...]]:
    """The layers that are trained, as patterns, by part. Of text encoders only CLIP's: T5 has ten times as many weights
    as all else, and the published scripts leave it alone."""
    clips = [tower.part.name for tower in model.towers if tower.words is CLIP_WORDS]
    towers = dict.fromkeys(clips, targets.text_layers) if targets.text else {}
    return {denoiser_of(model).name: targets.patterns, **towers}
