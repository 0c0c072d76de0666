"""From a recipe to what is taught with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from atelier.families.words import CLIP_WORDS
from atelier.train.teaching.base import Base, base_of, opened
from atelier.train.teaching.recipe import Targets, TeachingRecipe
from atelier.weights.cast import precision

if TYPE_CHECKING:
    from atelier.train.loop import Placement


def base_for(recipe: TeachingRecipe, placement: Placement, *, trains_it: bool) -> Base:
    """The model that the recipe teaches; in float32 where its own weights learn. Raises BadFile."""
    kept = placement.dtype if recipe.base_dtype == "auto" else precision(recipe.base_dtype)
    dtype = torch.float32 if trains_it else kept
    return base_of(opened(recipe.base), placement.device, dtype)


def layers(targets: Targets, base: Base) -> Mapping[str, tuple[str, ...]]:
    """The layers that are trained, as patterns, by part. Of text encoders only CLIP's: T5 has ten times as many weights
    as all else, and the published scripts leave it alone."""
    clips = [tower.part.name for tower in base.checkpoint.towers if tower.words is CLIP_WORDS]
    towers = dict.fromkeys(clips, targets.text_layers) if targets.text else {}
    return {base.denoiser.name: targets.patterns, **towers}
