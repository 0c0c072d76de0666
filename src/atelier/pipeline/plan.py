"""From a resolved request to stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from atelier.checkpoints.preview import RgbMatrix
from atelier.diffusion.catalogue import samplers
from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.finishes import AsItIs, Finish, OnSource
from atelier.pipeline.layouts import Everywhere, InRegions, Layout
from atelier.pipeline.prepared import PreparedPrompt, prepare
from atelier.pipeline.prompted import NO_WORDS, NoPorts, PortAdapter, WithoutEdges
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.encode import Encode
from atelier.pipeline.stages.encode_image import EncodeImage
from atelier.pipeline.stages.place import Place
from atelier.pipeline.stages.prepare import Prepare
from atelier.pipeline.stages.save import Save
from atelier.pipeline.starts import FromLatent, FromNoise, InMask, InViews, Start, Wrap
from atelier.pipeline.steering import is_on
from atelier.pipeline.values import IMAGES, KNOWN, LATENTS, PLACED, PREPARED, STATES
from atelier.prompt import Clock, Warn, emphasis, silent, weighted
from atelier.request.infotext import Settings, settings
from atelier.request.model import Provenance
from atelier.request.resolved import (
    NoMask,
    NoRegions,
    NoSource,
    NoViews,
    RegionPrompts,
    Resolved,
    ResolvedRegions,
    ResolvedSampling,
    ResolvedSource,
    ResolvedTiling,
    ResolvedViews,
    SampleSettings,
)

AT_ONCE = 4
"""Views in one call where a device takes whole batches."""


def plan(
    resolved: Resolved,
    own: ResolvedSampling,
    provenance: Provenance,
    *,
    max_batch: int | None = None,
    previews: bool = False,
    matrix: RgbMatrix | None = None,
    warn: Warn = silent,
) -> tuple[Stage, ...]:
    """What to do, in order. A pure function but for `warn`.

    max_batch: at most so many images in one network call, a whole batch if None. Each group of images is finished
    before the next one is begun. previews: whether to show some; matrix: how, where the model has one. own, provenance:
    for the infotexts. Raises BadInput for prompts that cannot be read.
    """
    mode, clock = emphasis(resolved.prompting.emphasis), _clock(resolved)
    prepared: dict[RegionPrompts, PreparedPrompt] = {}
    for words in dict.fromkeys(words for sample in resolved.samples for words in _words(sample)):
        prepared[words] = prepare(words.prompt, words.negative_prompt, clock, warn)
    samples = tuple(
        _sample(i, resolved, [prepared[words] for words in _words(s)], settings(resolved, i, own, provenance))
        for i, s in enumerate(resolved.samples)
    )
    words = (NO_WORDS,) if is_on("Perp-Neg", resolved.guidance) else ()
    groups = (*dict.fromkeys(group for prompt in prepared.values() for group in prompt.groups), *words)
    for text in dict.fromkeys(text for group in groups for text in group):
        weighted(text, mode, warn)
    encode = Encode(resolved.model, groups, mode.name, resolved.prompting.clip_skip, STATES)
    return (encode, *_source(resolved), *_stages(resolved, samples, max_batch, _Shown(previews, matrix)))


def _clock(resolved: Resolved) -> Clock:
    spec, steps = samplers()[resolved.sampling.sampler], resolved.sampling.steps
    return Clock(steps * (1 if spec.alone else spec.calls), old=resolved.prompting.old_timelines)


def _words(sample: SampleSettings) -> tuple[RegionPrompts, ...]:
    """The prompts of a sample: of the whole image, then of each region."""
    return (RegionPrompts(prompt=sample.prompt, negative_prompt=sample.negative_prompt), *sample.regions)


def _sample(index: int, resolved: Resolved, prompts: Sequence[PreparedPrompt], said: Settings) -> Sample:
    own, (whole, *regions) = resolved.samples[index], prompts
    return Sample(index, own.seed, own.variation_seed, whole, said, tuple(regions))


def _source(resolved: Resolved) -> Iterator[Stage]:
    if isinstance(resolved.source, ResolvedSource):
        yield Prepare(resolved.source, resolved.size, PREPARED)
        yield EncodeImage(resolved.model, resolved.size, PREPARED, KNOWN, _seamless(resolved.tiling))
    if isinstance(resolved.regions, ResolvedRegions):
        yield Place(resolved.model, resolved.regions, resolved.size, PLACED)


def _start(source: NoSource | ResolvedSource) -> Start:
    if isinstance(source, NoSource):
        return FromNoise()
    content = "original" if isinstance(source.mask, NoMask) else source.mask.content
    return FromLatent(KNOWN, source.strength, source.exact_steps, source.noise_multiplier, source.extra_noise, content)


def _combined(source: NoSource | ResolvedSource) -> tuple[Wrap, ...]:
    return () if isinstance(source, NoSource) or isinstance(source.mask, NoMask) else (InMask(KNOWN),)


def _finish(source: NoSource | ResolvedSource) -> Finish:
    return AsItIs() if isinstance(source, NoSource) else OnSource(PREPARED, source.color_correction)


class _Shown(NamedTuple):
    """Whether previews are shown, and how."""

    previews: bool
    matrix: RgbMatrix | None


def _stages(resolved: Resolved, samples: Sequence[Sample], max_batch: int | None, shown: _Shown) -> Iterator[Stage]:
    for batch in _chunks(samples, resolved.batch_size):
        for alike in _alike(batch):
            for group in _chunks(alike, max_batch or resolved.batch_size):
                yield _diffuse(resolved, group, max_batch, shown)
                yield Decode(
                    resolved.model, group, LATENTS, IMAGES, _finish(resolved.source), _seamless(resolved.tiling)
                )
                for output in resolved.output.folders:
                    yield Save(group, len(samples), output, IMAGES)


def _diffuse(resolved: Resolved, group: tuple[Sample, ...], max_batch: int | None, shown: _Shown) -> Diffuse:
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
        inside=_views(resolved, AT_ONCE if max_batch is None else max(1, max_batch // len(group))),
        layout=_layout(resolved.regions),
        combine=_combined(resolved.source),
        adapter=_adapter(resolved),
        previews=shown.previews,
        matrix=shown.matrix,
    )


def _layout(regions: NoRegions | ResolvedRegions) -> Layout:
    if isinstance(regions, NoRegions):
        return Everywhere()
    return InRegions(PLACED, tuple(part.weight for part in regions.parts), regions.ground)


def _views(resolved: Resolved, at_once: int) -> tuple[Wrap, ...]:
    views = resolved.views
    return () if isinstance(views, NoViews) else (InViews(views, _seamless(resolved.tiling), at_once),)


def _adapter(resolved: Resolved) -> PortAdapter:
    """Where a view is a part of the canvas only, its own edges do not meet: the views go over the canvas' instead."""
    views, whole = resolved.views, _seamless(resolved.tiling)
    if isinstance(views, ResolvedViews):
        across, down = (view >= side for view, side in zip(views.size, resolved.size, strict=True))
        whole = Seamless(whole.x and across, whole.y and down)
    return NoPorts() if whole == EDGES else WithoutEdges(whole)


def _seamless(tiling: ResolvedTiling) -> Seamless:
    return Seamless(tiling.x, tiling.y)


def _alike(samples: Sequence[Sample]) -> Iterator[tuple[Sample, ...]]:
    """Neighbours whose prompts have the same parts, which guidance can take together."""
    start = 0
    for i in range(1, len(samples) + 1):
        if i == len(samples) or _weights(samples[i]) != _weights(samples[start]):
            yield tuple(samples[start:i])
            start = i


def _weights(sample: Sample) -> tuple[tuple[float, ...], ...]:
    return tuple(prompt.weights for prompt in (sample.prompt, *sample.regions))


def _chunks(samples: Sequence[Sample], length: int) -> Iterator[tuple[Sample, ...]]:
    for start in range(0, len(samples), length):
        yield tuple(samples[start : start + length])
