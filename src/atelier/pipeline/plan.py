"""From a resolved request to stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from atelier.diffusion.catalogue import samplers
from atelier.pipeline.prepared import PreparedPrompt, prepared
from atelier.pipeline.stages import Decode, Diffuse, Encode, Sample, Save, Stage
from atelier.prompt import Clock, Warn, emphasis, silent, weighted
from atelier.prompt.wildcards import Files
from atelier.request.infotext import settings
from atelier.request.model import Provenance, Resolved

NO_FILES: Files = MappingProxyType({})


def plan(
    request: Resolved,
    provenance: Provenance,
    *,
    max_batch: int | None = None,
    files: Files = NO_FILES,
    warn: Warn = silent,
) -> tuple[Stage, ...]:
    """What to do, in order. A pure function but for `warn`.

    max_batch: at most so many pictures in one network call, a whole batch if None. Each group of pictures is finished
    before the next one is begun. provenance: for the infotexts. files: lines of wildcards by name. Raises BadInput for
    words that cannot be painted, UnknownName for an emphasis mode that is not there.
    """
    asked, spec = request.asked, samplers()[request.sampler]
    mode = emphasis(asked.prompting.emphasis)
    clock = Clock(request.steps * (1 if spec.alone else spec.calls), old=asked.prompting.old_timelines)
    prompting = asked.prompting.model_copy(update={"emphasis": mode.name})
    request = replace(request, asked=asked.model_copy(update={"prompting": prompting}))
    words: dict[int, PreparedPrompt] = {}
    for seed in dict.fromkeys(_drawn_from(request)):
        words[seed] = prepared(request.prompt, request.negative_prompt, asked, seed, clock, files, warn)
    samples = tuple(_samples(request, words, provenance))
    groups = tuple(dict.fromkeys(group for w in words.values() for group in w.groups))
    for text in dict.fromkeys(text for group in groups for text in group):
        weighted(text, mode, warn)
    return tuple(
        _stages(request, samples, Encode(request.model, groups, mode.name, asked.prompting.clip_skip or 1), max_batch)
    )


def _drawn_from(request: Resolved) -> tuple[int, ...]:
    """The seed of each picture's choices: what tells it from the others."""
    return request.variation_seeds if request.asked.noise.variation_strength > 0 else request.seeds


def _samples(request: Resolved, words: Mapping[int, PreparedPrompt], provenance: Provenance) -> Iterator[Sample]:
    for i, drawn_from in enumerate(_drawn_from(request)):
        word = words[drawn_from]
        said = settings(request, i, (word.prompt, word.negative_prompt), provenance)
        yield Sample(i, request.seeds[i], request.variation_seeds[i], word, said)


def _stages(request: Resolved, samples: Sequence[Sample], encode: Encode, max_batch: int | None) -> Iterator[Stage]:
    yield encode
    asked = request.asked
    for batch in _chunks(samples, asked.batch_size):
        for alike in _alike(batch):
            for group in _chunks(alike, max_batch or asked.batch_size):
                yield Diffuse(request, group)
                yield Decode(request.model, group)
                if asked.output is not None:
                    yield Save(group, len(samples), asked.output)


def _alike(samples: Sequence[Sample]) -> Iterator[tuple[Sample, ...]]:
    """Neighbours whose prompts have the same parts, which guidance can take together."""
    start = 0
    for i in range(1, len(samples) + 1):
        if i == len(samples) or samples[i].prepared.weights != samples[start].prepared.weights:
            yield tuple(samples[start:i])
            start = i


def _chunks(samples: Sequence[Sample], length: int) -> Iterator[tuple[Sample, ...]]:
    for start in range(0, len(samples), length):
        yield tuple(samples[start : start + length])
