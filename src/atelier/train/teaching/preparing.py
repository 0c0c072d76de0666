"""What is made before a teaching begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.request.events import TrainingEvent
    from atelier.train.loop import Placement
    from atelier.train.teaching.recipe import TeachingRecipe


def prepared(recipe: TeachingRecipe, placement: Placement, folder: Path) -> Iterator[TrainingEvent]:
    """Images of the class, where the model is to generate any; see `class_images`."""
    if recipe.data.class_images:
        from atelier.train.teaching.class_images import generate_class_images

        yield from generate_class_images(recipe, placement, folder)
