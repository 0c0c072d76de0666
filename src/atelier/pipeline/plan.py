"""From a resolved request to stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atelier.diffusion.catalogue import samplers
from atelier.diffusion.combine.soft import Softness
from atelier.pipeline.finishes import AsItIs, Finish, OnSource, WhatChanged
from atelier.pipeline.prepared import PreparedPrompt, prepare
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.encode import Encode
from atelier.pipeline.stages.encode_channels import EncodeChannels
from atelier.pipeline.stages.encode_image import EncodeImage
from atelier.pipeline.stages.grow import Grow
from atelier.pipeline.stages.prepare import Prepare
from atelier.pipeline.stages.save import Save
from atelier.pipeline.starts import FromLatent, FromNoise, InMask, Start, Wrap
from atelier.pipeline.values import CHANNELS, IMAGES, KNOWN, LATENTS, PREPARED, STATES
from atelier.prompt import Clock, Warn, emphasis, silent, weighted
from atelier.request.infotext import settings
from atelier.request.model import Provenance
from atelier.request.outpaint import Margins, passes
from atelier.request.resolved import (
    ImageChannels,
    NoChannels,
    NoMask,
    NoSoftness,
    NoSource,
    Resolved,
    ResolvedMask,
    ResolvedOutpaint,
    ResolvedSampling,
    ResolvedSource,
    SampleSettings,
    Size,
)
from atelier.vision.difference import Sensitivity

PASS_STEP = 64
"""Pixels: between two passes of outpainting the canvas is a multiple of this, which suits every family."""


def plan(
    resolved: Resolved,
    own: ResolvedSampling,
    provenance: Provenance,
    *,
    max_batch: int | None = None,
    previews: bool = False,
    warn: Warn = silent,
) -> tuple[Stage, ...]:
    """What to do, in order. A pure function but for `warn`.

    max_batch: at most so many images in one network call, a whole batch if None. Each group of images is finished
    before the next one is begun. previews: whether to show some. own, provenance: for the infotexts. Raises BadInput
    for prompts that cannot be read.
    """
    mode, clock = emphasis(resolved.prompting.emphasis), _clock(resolved)
    prepared: dict[SampleSettings, PreparedPrompt] = {}
    for sample in dict.fromkeys(map(_words, resolved.samples)):
        prepared[sample] = prepare(sample.prompt, sample.negative_prompt, clock, warn)
    samples = tuple(
        Sample(i, s.seed, s.variation_seed, prepared[_words(s)], settings(resolved, i, own, provenance))
        for i, s in enumerate(resolved.samples)
    )
    groups = tuple(dict.fromkeys(group for prompt in prepared.values() for group in prompt.groups))
    for text in dict.fromkeys(text for group in groups for text in group):
        weighted(text, mode, warn)
    encode = Encode(resolved.model, groups, mode.name, resolved.prompting.clip_skip, STATES)
    return (encode, *_source(resolved), *_stages(resolved, samples, max_batch, previews=previews))


def _clock(resolved: Resolved) -> Clock:
    spec, steps = samplers()[resolved.sampling.sampler], resolved.sampling.steps
    return Clock(steps * (1 if spec.alone else spec.calls), old=resolved.prompting.old_timelines)


def _words(sample: SampleSettings) -> SampleSettings:
    """What a sample's prompts depend on."""
    return sample.model_copy(update={"seed": 0, "variation_seed": 0})


def _source(resolved: Resolved) -> Iterator[Stage]:
    source = resolved.source
    if isinstance(source, ResolvedSource) and isinstance(source.mask, ResolvedOutpaint):
        return
    if isinstance(source, ResolvedSource):
        yield Prepare(source, resolved.size, PREPARED)
    yield from _encoded(resolved, source)


def _encoded(resolved: Resolved, source: NoSource | ResolvedSource) -> Iterator[Stage]:
    """What is prepared, encoded."""
    soft = isinstance(source, ResolvedSource) and _is_soft(source)
    if isinstance(source, ResolvedSource):
        yield EncodeImage(resolved.model, resolved.size, PREPARED, KNOWN, soft=soft)
    if not isinstance(resolved.channels, NoChannels):
        where = None if isinstance(source, NoSource) else PREPARED
        yield EncodeChannels(resolved.model, resolved.size, resolved.channels, where, CHANNELS, soft=soft)


def _start(source: NoSource | ResolvedSource) -> Start:
    if isinstance(source, NoSource):
        return FromNoise()
    content = source.mask.content if isinstance(source.mask, ResolvedMask) else "original"
    return FromLatent(KNOWN, source.strength, source.exact_steps, source.noise_multiplier, source.extra_noise, content)


def _combined(source: NoSource | ResolvedSource) -> tuple[Wrap, ...]:
    if isinstance(source, NoSource) or isinstance(source.mask, NoMask):
        return ()
    soft = source.mask.soft if isinstance(source.mask, ResolvedMask) else NoSoftness()
    return (InMask(KNOWN, Softness(soft.bias, soft.strength, soft.boost) if soft.kind == "soft" else None),)


def _finish(source: NoSource | ResolvedSource) -> Finish:
    if isinstance(source, NoSource):
        return AsItIs()
    soft = source.mask.soft if isinstance(source.mask, ResolvedMask) else NoSoftness()
    if isinstance(soft, NoSoftness):
        return OnSource(PREPARED, source.color_correction)
    seen = Sensitivity(soft.influence, soft.threshold, soft.contrast, soft.strength)
    return OnSource(PREPARED, source.color_correction, WhatChanged(KNOWN, seen))


def _is_soft(source: ResolvedSource) -> bool:
    return source.mask.kind == "mask" and source.mask.soft.kind == "soft"


def _stages(resolved: Resolved, samples: Sequence[Sample], max_batch: int | None, *, previews: bool) -> Iterator[Stage]:
    added = _margins(resolved)
    max_batch = max_batch if len(added) <= 1 else 1
    for batch in _chunks(samples, resolved.batch_size):
        for alike in _alike(batch):
            for group in _chunks(alike, max_batch or resolved.batch_size):
                yield from _grown(resolved, group, added, previews=previews)
                yield _diffuse(resolved, group, previews=previews)
                yield Decode(resolved.model, group, LATENTS, IMAGES, _finish(resolved.source))
                for output in resolved.output.folders:
                    yield Save(group, len(samples), output, IMAGES)


def _margins(resolved: Resolved) -> tuple[Margins, ...]:
    """What is added to the canvas in each pass."""
    source = resolved.source
    if isinstance(source, NoSource) or not isinstance(source.mask, ResolvedOutpaint):
        return ()
    mask, (width, height) = source.mask, resolved.size
    inner = width - mask.left - mask.right, height - mask.top - mask.bottom
    return tuple(passes(inner, Margins(mask.left, mask.right, mask.top, mask.bottom), PASS_STEP))


def _grown(
    resolved: Resolved, group: tuple[Sample, ...], added: Sequence[Margins], *, previews: bool
) -> Iterator[Stage]:
    """The stages of outpainting before the last Diffuse: each pass but the last is generated to its end."""
    if isinstance(resolved.source, NoSource) or not added:
        return
    size = resolved.size
    sizes = [size]
    for margins in reversed(added[1:]):
        size = Size(size.width - margins.left - margins.right, size.height - margins.top - margins.bottom)
        sizes.insert(0, size)
    for number, (margins, size) in enumerate(zip(added, sizes, strict=True)):
        if number:
            yield _diffuse(_sized(resolved, sizes[number - 1]), group, previews=previews)
            yield Decode(resolved.model, group, LATENTS, IMAGES, _finish(resolved.source), told=False)
        yield Grow(resolved.source.image, margins, IMAGES if number else None, group[0].index, PREPARED)
        yield from _encoded(_sized(resolved, size), resolved.source)


def _sized(resolved: Resolved, size: Size) -> Resolved:
    """The same on a canvas of another size, whose noise is its own."""
    noise = resolved.noise
    if noise.resized_from == resolved.size:
        noise = noise.model_copy(update={"resized_from": size})
    return resolved.model_copy(update={"size": size, "noise": noise})


def _diffuse(resolved: Resolved, group: tuple[Sample, ...], *, previews: bool) -> Diffuse:
    return Diffuse(
        model=resolved.model,
        samples=group,
        size=resolved.size,
        sampling=resolved.sampling,
        guidance=resolved.guidance,
        noise=resolved.noise,
        states=STATES,
        out=LATENTS,
        start=_start(resolved.source),
        combine=_combined(resolved.source),
        channels=None if isinstance(resolved.channels, NoChannels) else CHANNELS,
        image_scale=resolved.channels.scale if isinstance(resolved.channels, ImageChannels) else 1.0,
        previews=previews,
    )


def _alike(samples: Sequence[Sample]) -> Iterator[tuple[Sample, ...]]:
    """Neighbours whose prompts have the same parts, which guidance can take together."""
    start = 0
    for i in range(1, len(samples) + 1):
        if i == len(samples) or samples[i].prompt.weights != samples[start].prompt.weights:
            yield tuple(samples[start:i])
            start = i


def _chunks(samples: Sequence[Sample], length: int) -> Iterator[tuple[Sample, ...]]:
    for start in range(0, len(samples), length):
        yield tuple(samples[start : start + length])
