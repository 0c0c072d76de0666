"""Running a plan: an iterator of events. Closing it cancels between two steps and gives everything back."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import torch

from atelier.errors import AtelierError, BadInput
from atelier.pipeline.lent import Lent
from atelier.pipeline.resources import Resources
from atelier.pipeline.stage import Stage
from atelier.pipeline.tape import Tape
from atelier.pipeline.values import Values
from atelier.request.events import Event, Failed, Finished, Loading, Progress, Started


def run(
    stages: Sequence[Stage], have: Resources, *, previews: float | None = None, tape: Tape | None = None
) -> Generator[Event]:
    """Performs the stages. An AtelierError on the way is the last event, Failed; any other error is raised.

    previews: seconds between one Preview and the next, at least, from stages that make some; None: none. They never
    change an image. tape: what earlier runs of the same predicted, and where what this one predicts is kept.
    """
    started = time.monotonic()
    images, steps = sum(stage.images for stage in stages), sum(stage.steps for stage in stages)
    yield Started(images, steps)
    try:
        with Lent(have, stages, previews=previews, tape=tape) as lent:
            yield from _performed(stages, lent)
    except AtelierError as error:
        yield Failed(error)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        yield Failed(BadInput("this does not fit in memory: choose a smaller size, batch or model"))
    else:
        yield Finished(images, time.monotonic() - started)


def _performed(stages: Sequence[Stage], lent: Lent) -> Iterator[Event]:
    """The events of all stages; their progress is counted over the whole run."""
    values, done = Values(), 0
    planned = [stage.steps for stage in stages]
    for index, stage in enumerate(stages):
        here = 0
        yield from _loaded(stage, lent)
        for event in stage.perform(lent, values):
            if not isinstance(event, Progress):
                yield event
                continue
            here, planned[index] = event.done, event.total
            yield replace(event, done=done + here, total=sum(planned))
        done += here
        lent.finish(index)


def _loaded(stage: Stage, lent: Lent) -> Iterator[Event]:
    """Takes what the stage needs, and tells before a file is read."""
    for need in stage.needs():
        if not lent.is_ready(need):
            yield Loading(need.model.name, need.part.name)
        lent.take(need)


def _out_of_memory(error: Exception) -> bool:
    """torch has a type for devices only; its allocator on the CPU raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
