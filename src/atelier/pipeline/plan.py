"""From a resolved request to stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atelier.pipeline.stages import Decode, Diffuse, Encode, Save, Slot, Stage
from atelier.request.infotext import infotext
from atelier.request.model import Resolved


def plan(request: Resolved, *, version: str, together: int | None = None) -> tuple[Stage, ...]:
    """What to do, in order. A pure function.

    together: at most so many pictures in one network call, a whole batch if None. Each group of pictures is finished
    before the next one is begun. version: of Atelier, for the infotexts.
    """
    return tuple(_stages(request, version, together))


def _stages(request: Resolved, version: str, together: int | None) -> Iterator[Stage]:
    yield Encode(request.model, request.prompt, request.negative_prompt)
    for slots in _groups(request, version, together):
        yield Diffuse(
            model=request.model,
            slots=slots,
            sampler=request.sampler,
            scheduler=request.scheduler,
            steps=request.steps,
            cfg_scale=request.cfg_scale,
            rng=request.rng,
            width=request.width,
            height=request.height,
        )
        yield Decode(request.model, slots)
        if request.output is not None:
            yield Save(slots, len(request.seeds), request.output)


def _groups(request: Resolved, version: str, together: int | None) -> Iterator[tuple[Slot, ...]]:
    slots = [Slot(i, seed, infotext(request, i, version)) for i, seed in enumerate(request.seeds)]
    for batch in _chunks(slots, request.batch_size):
        yield from _chunks(batch, together or request.batch_size)


def _chunks(slots: Sequence[Slot], length: int) -> Iterator[tuple[Slot, ...]]:
    for start in range(0, len(slots), length):
        yield tuple(slots[start : start + length])
