"""From a resolved request to stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from atelier.diffusion.catalogue import samplers
from atelier.pipeline.finishes import AsItIs, Finish, OnSource
from atelier.pipeline.prepared import PreparedPrompt, prepare
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.encode import Encode
from atelier.pipeline.stages.encode_image import EncodeImage
from atelier.pipeline.stages.enlarge import Enlarge
from atelier.pipeline.stages.prepare import Prepare
from atelier.pipeline.stages.save import Save
from atelier.pipeline.starts import FromLatent, FromNoise, InMask, Start, Wrap
from atelier.pipeline.values import (
    ENLARGED,
    FIRST_LATENTS,
    IMAGES,
    KNOWN,
    LARGER_KNOWN,
    LARGER_PREPARED,
    LATENTS,
    PREPARED,
    STATES,
    Key,
    Known,
    Latents,
    Prepared,
)
from atelier.prompt import Clock, Warn, emphasis, silent, weighted
from atelier.request.infotext import Settings, settings
from atelier.request.model import Provenance
from atelier.request.resolved import (
    NoHires,
    NoMask,
    NoSource,
    Resolved,
    ResolvedGuidance,
    ResolvedHires,
    ResolvedNoise,
    ResolvedSampling,
    ResolvedSource,
    Size,
)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass samples, the samples apart. prepared, known: where the image to start from is, if there is one."""

    size: Size
    sampling: ResolvedSampling
    guidance: ResolvedGuidance
    start: Start
    prepared: Key[Prepared]
    known: Key[Known]
    out: Key[Latents]


@dataclass(frozen=True, slots=True)
class _Twice:
    """One image, as each pass sees it."""

    first: Sample
    second: Sample


def plan(
    resolved: Resolved,
    own: ResolvedSampling,
    provenance: Provenance,
    *,
    second_own: ResolvedSampling | None = None,
    max_batch: int | None = None,
    previews: bool = False,
    warn: Warn = silent,
) -> tuple[Stage, ...]:
    """What to do, in order. A pure function but for `warn`.

    max_batch: at most so many images in one network call, a whole batch if None. Each group of images is finished
    before the next one is begun. previews: whether to show some. own, provenance: for the infotexts; second_own: the
    same for the sampling of a second pass, None where nothing of it was asked for. Raises BadInput for prompts that
    cannot be read.
    """
    mode = emphasis(resolved.prompting.emphasis)
    images = tuple(_images(resolved, warn, lambda i: settings(resolved, i, own, provenance, second_own)))
    prompts = dict.fromkeys(prompt for image in images for prompt in (image.first.prompt, image.second.prompt))
    groups = tuple(dict.fromkeys(group for prompt in prompts for group in prompt.groups))
    for text in dict.fromkeys(text for group in groups for text in group):
        weighted(text, mode, warn)
    encode = Encode(resolved.model, groups, mode.name, resolved.prompting.clip_skip, STATES)
    return (encode, *_source(resolved), *_stages(resolved, images, max_batch, previews=previews))


def _images(resolved: Resolved, warn: Warn, says: Callable[[int], Settings]) -> Iterator[_Twice]:
    """Each image of the request, its prompts parsed for both passes; equal ones once. says: its infotext."""
    clocks = tuple(_clocks(resolved))
    known: dict[tuple[str, str, Clock], PreparedPrompt] = {}
    own = [(sample.prompt, sample.negative_prompt) for sample in resolved.samples]
    hires = resolved.hires
    larger = own if isinstance(hires, NoHires) else [(said.prompt, said.negative_prompt) for said in hires.prompts]
    for i, (sample, *passes) in enumerate(zip(resolved.samples, own, larger, strict=True)):
        keys = [(*texts, clock) for texts, clock in zip(passes, clocks, strict=True)]
        for key in keys:
            known[key] = known.get(key) or prepare(*key, warn)
        first = Sample(i, sample.seed, sample.variation_seed, known[keys[0]], says(i))
        yield _Twice(first, replace(first, prompt=known[keys[1]]))


def _clocks(resolved: Resolved) -> Iterator[Clock]:
    """How moments are counted in each pass; without a second one, in the first twice."""
    old, calls = resolved.prompting.old_timelines, _calls(resolved.sampling)
    yield Clock(calls, old=old)
    hires = resolved.hires
    yield Clock(calls, old=old) if isinstance(hires, NoHires) else Clock(_calls(hires.sampling), calls, old)


def _calls(sampling: ResolvedSampling) -> int:
    spec = samplers()[sampling.sampler]
    return sampling.steps * (1 if spec.alone else spec.calls)


def _passes(resolved: Resolved) -> Iterator[_Pass]:
    """The first pass and, if there is one, the second."""
    hires, start = resolved.hires, _start(resolved.source)
    once = isinstance(hires, NoHires)
    out = LATENTS if once else FIRST_LATENTS
    yield _Pass(resolved.size, resolved.sampling, resolved.guidance, start, PREPARED, KNOWN, out)
    if not once:
        start = FromLatent(ENLARGED, hires.strength, hires.exact_steps)
        yield _Pass(hires.size, hires.sampling, hires.guidance, start, LARGER_PREPARED, LARGER_KNOWN, LATENTS)


def _source(resolved: Resolved) -> Iterator[Stage]:
    """The image to start from, at the size of each pass."""
    if isinstance(resolved.source, ResolvedSource):
        for own in _passes(resolved):
            yield Prepare(resolved.source, own.size, own.prepared)
            yield EncodeImage(resolved.model, own.size, own.prepared, own.known)


def _start(source: NoSource | ResolvedSource) -> Start:
    if isinstance(source, NoSource):
        return FromNoise()
    content = "original" if isinstance(source.mask, NoMask) else source.mask.content
    return FromLatent(KNOWN, source.strength, source.exact_steps, source.noise_multiplier, source.extra_noise, content)


def _combined(source: NoSource | ResolvedSource, known: Key[Known]) -> tuple[Wrap, ...]:
    return () if isinstance(source, NoSource) or isinstance(source.mask, NoMask) else (InMask(known),)


def _finish(resolved: Resolved) -> Finish:
    *_, last = _passes(resolved)
    source = resolved.source
    return AsItIs() if isinstance(source, NoSource) else OnSource(last.prepared, source.color_correction)


def _stages(resolved: Resolved, images: Sequence[_Twice], max_batch: int | None, *, previews: bool) -> Iterator[Stage]:
    for batch in _chunks(images, resolved.batch_size):
        for alike in _alike(batch):
            for group in _chunks(alike, max_batch or resolved.batch_size):
                samples = tuple(image.first for image in group)
                yield from _sampled(resolved, group, previews=previews)
                yield Decode(resolved.model, samples, LATENTS, IMAGES, _finish(resolved))
                for output in resolved.output.folders:
                    yield Save(samples, len(images), output, IMAGES)


def _sampled(resolved: Resolved, group: Sequence[_Twice], *, previews: bool) -> Iterator[Stage]:
    """The latents of a group, by one pass or by two with what enlarges between them."""
    first, *rest = _passes(resolved)
    samples = tuple(image.first for image in group)
    yield _diffuse(resolved, first, samples, previews=previews)
    for own in rest:
        assert isinstance(resolved.hires, ResolvedHires)
        hires, larger = resolved.hires, tuple(image.second for image in group)
        yield Enlarge(
            model=resolved.model,
            samples=larger,
            scaled=hires.scaled,
            size=hires.size,
            upscaler=hires.upscaler,
            source=first.out,
            out=ENLARGED,
        )
        yield _diffuse(resolved, own, larger, previews=previews)


def _diffuse(resolved: Resolved, own: _Pass, samples: tuple[Sample, ...], *, previews: bool) -> Diffuse:
    return Diffuse(
        model=resolved.model,
        samples=samples,
        size=own.size,
        sampling=own.sampling,
        guidance=own.guidance,
        noise=_noise(resolved, own.size),
        states=STATES,
        out=own.out,
        start=own.start,
        combine=_combined(resolved.source, own.known),
        previews=previews,
    )


def _noise(resolved: Resolved, size: Size) -> ResolvedNoise:
    """The noise at the size of a pass: where the first one's is not resized, nor is that of the second."""
    noise = resolved.noise
    return noise.model_copy(update={"resized_from": size}) if noise.resized_from == resolved.size else noise


def _alike(images: Sequence[_Twice]) -> Iterator[tuple[_Twice, ...]]:
    """Neighbours whose prompts have the same parts, which guidance can take together."""
    for _, alike in groupby(images, lambda image: (image.first.prompt.weights, image.second.prompt.weights)):
        yield tuple(alike)


def _chunks(images: Sequence[_Twice], length: int) -> Iterator[tuple[_Twice, ...]]:
    for start in range(0, len(images), length):
        yield tuple(images[start : start + length])
