"""Several requests one after another, told as one run."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace

from atelier.request.events import (
    Event,
    Failed,
    Finished,
    Hashing,
    ImageReady,
    Preview,
    Progress,
    Saved,
    Started,
    Warned,
)
from atelier.request.model import Request
from atelier.request.resolved import Resolved
from atelier.runtime.engine import Engine


def hashing(engine: Engine, requests: Iterable[Request]) -> Generator[Hashing]:
    """What to tell before `several`: weights that have to be hashed first, each model once."""
    named = {(request.model, request.model_hash): request for request in requests}
    yield from dict.fromkeys(event for request in named.values() for event in engine.hashing(request))


def several(engine: Engine, requests: Sequence[Request], *, previews: float | None = None) -> Generator[Event]:
    """The events of all requests as those of one run, which the first that fails ends; images are counted through.

    Raises BadInput, at the call, for the first request that cannot be generated, before anything is made.
    """
    return _run(engine, requests, [engine.resolve(request) for request in requests], previews)


def steps_of(resolved: Resolved) -> int:
    """About how many sampler steps it takes."""
    return resolved.sampling.steps * -(-len(resolved.samples) // resolved.batch_size)


def _run(
    engine: Engine, requests: Sequence[Request], resolved: Sequence[Resolved], previews: float | None
) -> Generator[Event]:
    started, counts = time.monotonic(), [len(one.samples) for one in resolved]
    left, done, first, told = [steps_of(one) for one in resolved], 0, 0, set[Warned]()
    yield Started(sum(counts), sum(left))
    for number, request in enumerate(requests):
        with closing(engine.events(request, previews=previews)) as events:
            for event in events:
                if isinstance(event, Started):
                    left[number] = event.steps
                elif isinstance(event, Progress):
                    left[number] = event.total
                    yield Progress(done + event.done, done + sum(left[number:]), first + event.index)
                elif isinstance(event, Warned):
                    if event not in told:
                        yield event
                    told.add(event)
                elif not isinstance(event, Finished):
                    yield _counted(event, first)
                if isinstance(event, Failed):
                    return
        done, first = done + left[number], first + counts[number]
    yield Finished(sum(counts), time.monotonic() - started)


def _counted(event: Event, first: int) -> Event:
    """With images counted from `first`."""
    return replace(event, index=first + event.index) if isinstance(event, Preview | ImageReady | Saved) else event
