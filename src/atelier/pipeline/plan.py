"""From a resolved request to stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from atelier.diffusion.catalogue import samplers
from atelier.pipeline.stages import Decode, Diffuse, Encode, Save, Slot, Stage
from atelier.pipeline.wording import Wording, wording
from atelier.prompt import Clock, Warn, emphasis, silent, weighted
from atelier.prompt.wildcards import Files
from atelier.request.infotext import settings
from atelier.request.model import Maker, Resolved

NO_FILES: Files = MappingProxyType({})


def plan(
    request: Resolved, maker: Maker, *, together: int | None = None, files: Files = NO_FILES, warn: Warn = silent
) -> tuple[Stage, ...]:
    """What to do, in order. A pure function but for `warn`.

    together: at most so many pictures in one network call, a whole batch if None. Each group of pictures is finished
    before the next one is begun. maker: for the infotexts. files: lines of wildcards by name. Raises BadInput for
    words that cannot be painted, UnknownName for an emphasis mode that is not there.
    """
    asked, spec = request.asked, samplers()[request.sampler]
    mode = emphasis(asked.emphasis)
    clock = Clock(request.steps * (1 if spec.alone else spec.calls), old=asked.old_timelines)
    request = replace(request, asked=asked.model_copy(update={"emphasis": mode.name}))
    words: dict[int, Wording] = {}
    for seed in dict.fromkeys(_drawn_from(request)):
        words[seed] = wording(request.prompt, request.negative_prompt, asked, seed, clock, files, warn)
    slots = tuple(_slots(request, words, maker))
    groups = tuple(dict.fromkeys(group for w in words.values() for group in w.groups))
    for text in dict.fromkeys(text for group in groups for text in group):
        weighted(text, mode, warn)
    return tuple(_stages(request, slots, Encode(request.model, groups, mode.name, asked.clip_skip or 1), together))


def _drawn_from(request: Resolved) -> tuple[int, ...]:
    """The seed of each picture's choices: what tells it from the others."""
    return request.variation_seeds if request.asked.variation_strength > 0 else request.seeds


def _slots(request: Resolved, words: Mapping[int, Wording], maker: Maker) -> Iterator[Slot]:
    for i, drawn_from in enumerate(_drawn_from(request)):
        word = words[drawn_from]
        said = settings(request, i, (word.prompt, word.negative_prompt), maker)
        yield Slot(i, request.seeds[i], request.variation_seeds[i], word, said)


def _stages(request: Resolved, slots: Sequence[Slot], encode: Encode, together: int | None) -> Iterator[Stage]:
    yield encode
    asked = request.asked
    for batch in _chunks(slots, asked.batch_size):
        for alike in _alike(batch):
            for group in _chunks(alike, together or asked.batch_size):
                yield Diffuse(request, group)
                yield Decode(request.model, group)
                if asked.output is not None:
                    yield Save(group, len(slots), asked.output)


def _alike(slots: Sequence[Slot]) -> Iterator[tuple[Slot, ...]]:
    """Neighbours whose prompts have the same parts, which guidance can take together."""
    start = 0
    for i in range(1, len(slots) + 1):
        if i == len(slots) or slots[i].wording.weights != slots[start].wording.weights:
            yield tuple(slots[start:i])
            start = i


def _chunks(slots: Sequence[Slot], length: int) -> Iterator[tuple[Slot, ...]]:
    for start in range(0, len(slots), length):
        yield tuple(slots[start : start + length])
