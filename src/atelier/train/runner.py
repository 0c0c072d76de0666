"""A recipe from beginning to end: claims the folder, builds the task, trains it, exports what it learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from atelier.errors import AtelierError
from atelier.request.events import Exported, Failed, Finished, TrainingEvent
from atelier.train.folder import claimed
from atelier.train.loop import Placement, train
from atelier.train.recipe import R
from atelier.train.registry import RecipeSpec


def run_recipe(
    spec: RecipeSpec[R],
    recipe: R,
    placement: Placement,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    *,
    accept_changes: bool = False,
) -> Iterator[TrainingEvent]:
    """The events of `train`, and Exported before Finished. An AtelierError on the way is the last event, Failed."""
    try:
        with claimed(folder, recipe, accept_changes=accept_changes):
            task = spec.build(recipe, placement, folder)
            for event in train(task, recipe.run, recipe.optim, folder, stop, accept_changes=accept_changes):
                if isinstance(event, Failed):
                    raise event.error  # through `claimed`, which takes a refused recipe back
                if isinstance(event, Finished):
                    yield Exported(spec.export(recipe, folder))
                yield event
    except AtelierError as error:
        yield Failed(error)
