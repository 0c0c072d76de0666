"""Generating a request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import cast

from atelier.diffusion.catalogue import samplers
from atelier.errors import BadInput
from atelier.pipeline.tape import Tape
from atelier.request.events import Event, Failed, ImageReady, Json, Preview, Progress, Started, Warned
from atelier.request.model import Request
from atelier.request.resolved import NoHires, NoPostprocess, Resolved, ResolvedSampling, Size, ToCover
from atelier.request.table import request_of
from atelier.runtime.jobs.job import JobProgress, TooLarge
from atelier.runtime.jobs.lease import SavedState, Settled
from atelier.runtime.resources import denoiser_weights
from atelier.runtime.workers.kind import Bench, Kind, Most, Spent, Task, Told
from atelier.runtime.workers.names import uploads_in
from atelier.runtime.workers.pictures import made_image

SAVING_SHARE = 0.02
"""Saving the middle of an image takes no more than about this share of the time."""
UNIT = 1e12
"""Weights times positions, of which costs are multiples: about what a core does in a second."""
OUTPUT = "output"


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput, and TooLarge for more images or pixels than are made in one job."""
    if fields.get(OUTPUT) is not None:
        raise BadInput("output: a server keeps images and hands them out, it saves none where it is told: leave it out")
    request = request_of({name: _value(value) for name, value in fields.items()})
    _check_count(request, bench.most)
    resolved, warnings = bench.engine.settle(request)
    _check_sizes(resolved, bench.most)
    return Settled(
        resolved=cast("dict[str, Json]", json.loads(resolved.to_json())),
        cost=_cost(resolved, bench),
        uploads=uploads_in(fields),
        warnings=tuple(warnings),
    )


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Goes on where an earlier attempt was, and leaves out the images that it finished."""
    resolved = _resolved(task)
    fingerprint = bench.engine.fingerprint(resolved)
    tape = Tape() if task.saved is None else Tape.of(task.saved, fingerprint)
    pace, step = _Pace(bench.most.save), 0
    events = bench.engine.run(resolved, previews=bench.most.preview, tape=tape, there=task.there)
    with closing(events):
        for event in events:
            is_within = isinstance(event, Progress | Preview | Warned)
            is_due = isinstance(event, Progress) and pace.is_due()
            step = event.done if isinstance(event, Progress) else step
            if len(tape) and is_within and (is_due or bench.stopping()):
                yield pace.timed(partial(_saved, tape, step, fingerprint))
            if not isinstance(event, ImageReady) or event.index not in task.there:
                yield from _told(event, len(resolved.samples))
    yield Spent(tape.asked, tape.played)


def _resolved(task: Task) -> Resolved:
    """Raises BadInput for what another release settled otherwise."""
    try:
        return Resolved.from_json(json.dumps(dict(task.resolved)))
    except ValueError as error:
        raise BadInput("the job was settled by another release of Atelier: send it again") from error


class _Pace:
    """When the middle of an image is saved: every so many seconds, less often where that takes long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def timed(self, save: Callable[[], SavedState]) -> SavedState:
        start = time.monotonic()
        saved = save()
        end = time.monotonic()
        self._due = end + max(self._seconds, (end - start) / SAVING_SHARE)
        return saved


def _saved(tape: Tape, step: int, fingerprint: str) -> SavedState:
    return SavedState(image=tape.image or 0, step=step, data=tape.to_bytes(fingerprint))


def _told(event: Event, images: int) -> Iterator[Told]:
    match event:
        case Started(_, steps):
            yield JobProgress(0, steps, 0, images, 0.0)
        case Progress(done, total, index):
            yield JobProgress(done, total, index, images, done / max(total, 1))
        case ImageReady(index, seed, image, infotext):
            yield made_image(image, infotext, index, seed)
        case Preview() | Warned():
            yield event
        case Failed(error):
            raise error
        case _:
            pass


def _value(value: Json) -> object:
    """Lists of JSON as the tuples that fields are."""
    return tuple(value) if isinstance(value, list) else value


def _check_count(request: Request, most: Most) -> None:
    count = request.batch_size * request.batch_count
    if count > most.images:
        raise TooLarge(f"batch_count: {count} images are asked for, at most {most.images} are made in one job")


def _check_sizes(resolved: Resolved, most: Most) -> None:
    for name, size in _sizes(resolved).items():
        if size.width * size.height > most.pixels:
            raise TooLarge(
                f"{name}: {size.width}x{size.height} is more than {most.pixels:,} pixels, the most of one image"
            )


def _sizes(resolved: Resolved) -> dict[str, Size]:
    """Of the images of each pass, by the fields that say them."""
    found, hires, later = {"width": resolved.size}, resolved.hires, resolved.postprocess
    last = resolved.size
    if not isinstance(hires, NoHires):
        found["hires_upscale"] = last = hires.size
    if isinstance(later, NoPostprocess):
        return found
    if isinstance(later.scale, ToCover):
        return found | {"postprocess_upscale_to": later.scale.size}
    larger = Size(*(max(1, round(side * later.scale.factor)) for side in last))
    return found | {"postprocess_upscale_by": larger}


def _cost(resolved: Resolved, bench: Bench) -> float:
    """Weights times positions of latents over all calls of all images, in UNIT."""
    model = bench.engine.resources.checkpoint(resolved.model)
    passes = [(resolved.size, resolved.sampling)]
    if not isinstance(resolved.hires, NoHires):
        passes.append((resolved.hires.size, resolved.hires.sampling))
    positions = sum(_calls(how) * size.width * size.height / model.latent.factor**2 for size, how in passes)
    both = 1 if resolved.guidance.scale == 1 else 2
    return len(resolved.samples) * both * positions * denoiser_weights(model) / UNIT


def _calls(sampling: ResolvedSampling) -> int:
    return sampling.steps * samplers()[sampling.sampler].calls


SPECS = (Kind("generate", settle, perform),)
