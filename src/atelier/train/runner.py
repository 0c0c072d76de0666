"""A recipe from beginning to end: claims the folder, builds the task, trains it, exports what it learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

from atelier.errors import AtelierError, BadInput, Interrupted
from atelier.request.events import Exported, Failed, Finished, TrainingEvent
from atelier.train.folder import claimed
from atelier.train.loop import Placement, train
from atelier.train.recipe import R, Run
from atelier.train.registry import RecipeSpec
from atelier.train.world import World


def run_recipe(
    spec: RecipeSpec[R],
    recipe: R,
    placement: Placement,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    *,
    accept_changes: bool = False,
) -> Iterator[TrainingEvent]:
    """The events of `train`, and Exported before Finished. An AtelierError on the way is the last event, Failed.

    Of several processes the first claims the folder and exports.
    """
    world = placement.world
    try:
        check_division(spec, recipe.run, world)
        with claimed(folder, recipe, accept_changes=accept_changes) if world.first else nullcontext():
            world.meet()
            yield from _prepared(spec, recipe, placement, folder, stop)
            task = spec.build(recipe, placement, folder)
            course = train(
                task, recipe.run, recipe.optim, folder, stop, placement=placement, accept_changes=accept_changes
            )
            for event in course:
                if isinstance(event, Failed):
                    raise event.error  # through `claimed`, which takes a refused recipe back
                if isinstance(event, Finished) and world.first:
                    yield Exported(spec.export(recipe, folder))
                yield event
    except AtelierError as error:
        yield Failed(error)


def _prepared(
    spec: RecipeSpec[R], recipe: R, placement: Placement, folder: Path, stop: Callable[[], bool]
) -> Iterator[TrainingEvent]:
    """Raises Interrupted for all processes where one is to stop; they wait for each other here."""
    world, is_stopped = placement.world, False
    if spec.prepare is not None:
        for event in spec.prepare(recipe, placement, folder):
            yield event
            if is_stopped := stop():
                break
    if world.any(is_stopped, placement.device):
        raise Interrupted("stopped before the first step; the same command goes on from there")


def check_division(spec: RecipeSpec[R], run: Run, world: World) -> None:
    """Raises BadInput where a step of this kind cannot be divided, or not into so many equal parts."""
    if not spec.splits and run.accumulate > 1:
        raise BadInput(f"run.accumulate = {run.accumulate}: {spec.name} learns from a batch as a whole; set it to 1")
    if not spec.splits and world.size > 1:
        raise BadInput(f"{spec.name} learns from a batch as a whole: train it in one process, without torchrun")
    if run.batch % (world.size * run.accumulate):
        raise BadInput(
            f"run.batch = {run.batch}: not divisible by {world.size} processes times run.accumulate ({run.accumulate})"
        )
