"""From a resolved request to stages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

from torch import Tensor

from atelier.checkpoints.preview import RgbMatrix
from atelier.diffusion.catalogue import samplers
from atelier.diffusion.combine.soft import Softness
from atelier.errors import BadInput
from atelier.families.telling import Said, Telling
from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.conditioning import States
from atelier.pipeline.finishes import AsItIs, Finish, OnSource, WhatChanged
from atelier.pipeline.layouts import Everywhere, InAttention, InRegions, Layout
from atelier.pipeline.networks import Borrowed, borrowed, of_regions
from atelier.pipeline.persons import met, unmet
from atelier.pipeline.prepared import PreparedPrompt, prepare
from atelier.pipeline.prompted import NO_WORDS, NoPorts, PortAdapter, WithoutEdges
from atelier.pipeline.resources import PLAIN, Adapted, Merged
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.annotate import Annotate
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.diffuse import Diffuse, Refiner, Regional
from atelier.pipeline.stages.encode import Encode, Meeting
from atelier.pipeline.stages.encode_channels import EncodeChannels
from atelier.pipeline.stages.encode_depth import EncodeDepth
from atelier.pipeline.stages.encode_example import EncodeExample
from atelier.pipeline.stages.encode_image import EncodeImage
from atelier.pipeline.stages.encode_small import EncodeSmall
from atelier.pipeline.stages.enlarge import Enlarge
from atelier.pipeline.stages.grow import Grow
from atelier.pipeline.stages.look import Look
from atelier.pipeline.stages.place import Place
from atelier.pipeline.stages.postprocess import Postprocess
from atelier.pipeline.stages.prepare import Prepare
from atelier.pipeline.stages.read_face import ReadFace
from atelier.pipeline.stages.read_person import ReadPerson
from atelier.pipeline.stages.save import Save
from atelier.pipeline.starts import FromLatent, FromNoise, InMask, InViews, Start, Wrap
from atelier.pipeline.steering import is_on
from atelier.pipeline.steers import ByExample, ByFace, ByHint, ByReference, Span, Steer
from atelier.pipeline.values import (
    CHANNELS,
    ENLARGED,
    FIRST_LATENTS,
    IMAGES,
    KNOWN,
    LARGER_CHANNELS,
    LARGER_KNOWN,
    LARGER_PLACED,
    LARGER_PREPARED,
    LARGER_STATES,
    LATENTS,
    PLACED,
    PREPARED,
    REFINER_STATES,
    STATES,
    Hint,
    Key,
    Known,
    Latents,
    Looked,
    Placed,
    Prepared,
    encoded_with,
)
from atelier.prompt import Clock, Warn, emphasis, silent, weighted
from atelier.request.infotext import Settings, settings
from atelier.request.model import Provenance
from atelier.request.outpaint import Margins, passes
from atelier.request.resolved import (
    AdapterRef,
    AsMade,
    DepthChannels,
    ImageChannels,
    ImageRef,
    MaskedChannels,
    ModelRef,
    NoChannels,
    NoHires,
    NoisedChannels,
    NoMask,
    NoPostprocess,
    NoRefiner,
    NoRegions,
    NoSoftness,
    NoSource,
    NoViews,
    PassPrompts,
    RegionPrompts,
    Resolved,
    ResolvedControl,
    ResolvedExample,
    ResolvedFace,
    ResolvedGuidance,
    ResolvedHires,
    ResolvedIdentity,
    ResolvedMask,
    ResolvedOutpaint,
    ResolvedPerson,
    ResolvedRefiner,
    ResolvedRegions,
    ResolvedSampling,
    ResolvedSizes,
    ResolvedSoftness,
    ResolvedSource,
    ResolvedSteering,
    SaidSize,
    SampleSettings,
    Size,
)
from atelier.vision.difference import Sensitivity
from atelier.vision.masks import Box
from atelier.weights.hashes import SHORT_TENSORS

PASS_STEP = 64
"""Pixels: between two passes of outpainting the canvas is a multiple of this, which suits every family."""
AT_ONCE = 4
"""Views in one call where a device takes whole batches."""


Words = SampleSettings | PassPrompts | RegionPrompts
"""What has a prompt and a negative prompt."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass samples, the samples apart. states: where its prompts are encoded; prepared, known, channels,
    placed: where the image to start from, what the network sees beside the latent and the places of regions are, if
    there are any; edges: where the image's meet; window: the part of the image that this pass makes, None for all of
    it; refiner: what takes over at its end, if anything does."""

    model: ModelRef
    states: Key[States]
    size: Size
    sampling: ResolvedSampling
    guidance: ResolvedGuidance
    start: Start
    prepared: Key[Prepared]
    known: Key[Known]
    channels: Key[Tensor]
    placed: Key[Placed]
    out: Key[Latents]
    edges: Seamless
    window: Box | None = None
    refiner: ResolvedRefiner | None = None
    number: Literal["first", "second"] = "first"

    @property
    def last(self) -> ModelRef:
        """The model whose autoencoder its latents are decoded with: the one that made them what they are."""
        return self.model if self.refiner is None else self.refiner.model


class _Reader(NamedTuple):
    """The text encoders that read some prompts: their model, what they are borrowed with, and where the states of the
    pass are."""

    model: ModelRef
    states: Key[States]
    adapted: Adapted


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
    matrix: RgbMatrix | None = None,
    tiny: bool = False,
    there: Collection[int] = (),
    warn: Warn = silent,
) -> tuple[Stage, ...]:
    """What to do, in order. A pure function but for `warn`.

    max_batch: at most so many images in one network call, a whole batch if None. Each group of images is finished
    before the next one is begun. previews: whether to show some; matrix: how, where the model has one; tiny: whether
    a tiny autoencoder lies beside the model; there: the indices of images that are made already: a group of which all
    are there is left out, any other is made whole, since images of one call share its bits. own, provenance: for the
    infotexts; second_own: the same for the sampling of a second pass, None where nothing of it was asked for. Raises
    BadInput for prompts that cannot be read.
    """
    images = tuple(_images(resolved, warn, lambda i: settings(resolved, i, own, provenance, second_own)))
    if isinstance(resolved.regions, ResolvedRegions) and resolved.regions.method == "attention":
        _check_coupled([sample for image in images for sample in (image.first, image.second)])
    encoded = (*_persons(resolved), *_encodings(resolved, images, warn))
    return (*encoded, *_source(resolved), *_stages(resolved, images, max_batch, _Shown(previews, matrix, tiny), there))


def _encodings(resolved: Resolved, images: Sequence[_Twice], warn: Warn) -> Iterator[Encode]:
    """One for all prompts that the same text encoders read, with the same changes by networks."""
    mode, passes = emphasis(resolved.prompting.emphasis), tuple(_passes(resolved))
    words = (NO_WORDS,) if any(is_on("Perp-Neg", own.guidance) for own in passes) else ()
    prompts: dict[_Reader, dict[PreparedPrompt, None]] = {}
    for image in images:
        for own, sample in zip(passes, (image.first, image.second), strict=False):
            for reader, read in _readers(resolved, own, sample):
                prompts.setdefault(reader, {}).update(dict.fromkeys(read))
    for reader, alike in prompts.items():
        groups = (*dict.fromkeys(group for prompt in alike for group in prompt.groups), *words)
        for text in dict.fromkeys(text for group in groups for text in group):
            weighted(text, mode, warn)
        skip, out = resolved.prompting.clip_skip, encoded_with(reader.states, reader.adapted)
        person = None if reader.states == REFINER_STATES else _meeting(resolved, reader.model)
        yield Encode(reader.model, groups, mode.name, skip, out, reader.adapted, person)


def _persons(resolved: Resolved) -> Iterator[ReadPerson]:
    """One for each model whose prompts a person is in."""
    passes = tuple(_passes(resolved))
    for person in _people(resolved):
        for model in dict.fromkeys(own.model for own in passes if _acts(person, own)):
            yield ReadPerson(model, person, _tokens_of(model))


def _people(resolved: Resolved) -> list[ResolvedPerson]:
    """The person in the prompts, if there is one: at most one is accepted."""
    return [own for own in resolved.steering if isinstance(own, ResolvedPerson) and own.weight]


def _meeting(resolved: Resolved, model: ModelRef) -> Meeting | None:
    """The person that a model's text encoders are told of."""
    for person in _people(resolved):
        if any(own.model == model and _acts(person, own) for own in _passes(resolved)):
            return Meeting(person.network, _tokens_of(model), person.weight)
    return None


def _tokens_of(model: ModelRef) -> Key[Tensor]:
    return Key(f"person for {model.sha256}")


def _readers(resolved: Resolved, own: _Pass, sample: Sample) -> Iterator[tuple[_Reader, tuple[PreparedPrompt, ...]]]:
    """Who reads which prompts of a sample in one pass: those of regions are read with the networks of the region."""
    regional = _regional(sample, resolved)
    read = [(borrowed(sample.prompt.networks, resolved), (sample.prompt, *(() if regional else sample.regions)))]
    read += [(networks, (region,)) for networks, region in zip(regional, sample.regions, strict=False)]
    for networks, prompts in read:
        yield _Reader(own.model, own.states, networks.text), prompts
        if own.refiner is not None:
            adapted = networks.text if own.refiner.alike else PLAIN
            yield _Reader(own.refiner.model, REFINER_STATES, adapted), prompts


def _regional(sample: Sample, resolved: Resolved) -> tuple[Borrowed, ...]:
    """What the regions of a sample ask for, None where they ask for what the image does."""
    return of_regions(sample.prompt.networks, [region.networks for region in sample.regions], resolved)


def _check_coupled(samples: Sequence[Sample]) -> None:
    """Raises BadInput for regions whose prompt is several: attention is divided between places, not between parts."""
    for sample in samples:
        for number, region in enumerate(sample.regions, start=1):
            if len(region.parts) > 1:
                raise BadInput(
                    f"region {number}: AND cannot be in it with region_method attention: make two regions of it"
                )


def _images(resolved: Resolved, warn: Warn, says: Callable[[int], Settings]) -> Iterator[_Twice]:
    """Each image of the request, its prompts parsed for both passes; equal ones once. says: its infotext."""
    clocks = _clocks(resolved)
    first_clock, second_clock = ((clock, own) for clock, own in zip(clocks, _both_passes(resolved), strict=True))
    known: dict[tuple[str, str, Clock, _Pass], PreparedPrompt] = {}

    def prepared(words: Words, moments: tuple[Clock, _Pass]) -> PreparedPrompt:
        key = words.prompt, words.negative_prompt, *moments
        if key not in known:
            known[key] = _peopled(prepare(*key[:3], warn), resolved, moments[1])
        return known[key]

    larger = resolved.samples if isinstance(resolved.hires, NoHires) else resolved.hires.prompts
    for i, (own, again) in enumerate(zip(resolved.samples, larger, strict=True)):
        there, here = (tuple(prepared(part, clock) for part in own.regions) for clock in (first_clock, second_clock))
        first = Sample(i, own.seed, own.variation_seed, prepared(own, first_clock), says(i), there)
        yield _Twice(first, replace(first, prompt=prepared(again, second_clock), regions=here))


def _both_passes(resolved: Resolved) -> tuple[_Pass, _Pass]:
    """Without a second one, the first twice."""
    passes = tuple(_passes(resolved))
    return passes[0], passes[-1]


def _peopled(prompt: PreparedPrompt, resolved: Resolved, own: _Pass) -> PreparedPrompt:
    """A prompt of a pass with the person in it, if there is one; without the trigger where it does not act."""
    for person in (one for one in resolved.steering if isinstance(one, ResolvedPerson)):
        taken = own.start.part(own.sampling.steps).run * samplers()[own.sampling.sampler].calls
        return met(prompt, person.start, taken) if _acts(person, own) else unmet(prompt)
    return prompt


def texts(resolved: Resolved) -> tuple[str, ...]:
    """Every text that its prompts say at some time."""
    first_clock, second_clock = _clocks(resolved)
    again = () if isinstance(resolved.hires, NoHires) else resolved.hires.prompts
    own = [(words, first_clock) for sample in resolved.samples for words in (sample, *sample.regions)]
    pairs = dict.fromkeys((w.prompt, w.negative_prompt, c) for w, c in (*own, *((w, second_clock) for w in again)))
    prompts = (prepare(*pair, silent) for pair in pairs)
    return tuple(dict.fromkeys(text for prompt in prompts for group in prompt.groups for text in group))


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
    out, keys = LATENTS if once else FIRST_LATENTS, (PREPARED, KNOWN, CHANNELS, PLACED)
    edges = Seamless(resolved.tiling.x, resolved.tiling.y)
    first = resolved.model, STATES
    size, sampling, guidance, takes_over = resolved.size, resolved.sampling, resolved.guidance, resolved.refiner
    refiner = _refiner(takes_over, "first pass", resolved.model, once=once)
    yield _Pass(*first, size, sampling, guidance, start, *keys, out, edges, refiner=refiner)
    if not once:
        start = FromLatent(ENLARGED, hires.strength, hires.exact_steps)
        keys = LARGER_PREPARED, LARGER_KNOWN, LARGER_CHANNELS, LARGER_PLACED
        again = first if hires.model == resolved.model else (hires.model, LARGER_STATES)
        refiner = _refiner(takes_over, "second pass", hires.model)
        yield _Pass(
            *again,
            hires.size,
            hires.sampling,
            hires.guidance,
            start,
            *keys,
            LATENTS,
            edges,
            refiner=refiner,
            number="second",
        )


def _refiner(
    wanted: NoRefiner | ResolvedRefiner, own: str, model: ModelRef, *, once: bool = False
) -> ResolvedRefiner | None:
    """What takes over in a pass, of that name, that is sampled with `model`. once: whether it is the only one."""
    if isinstance(wanted, NoRefiner) or wanted.model == model:
        return None
    return wanted if once or wanted.passes in {own, "both passes"} else None


def _source(resolved: Resolved) -> Iterator[Stage]:
    """The image to start from, what the network sees beside the latent, and the regions, at the size of each pass; a
    canvas that grows has these as it grows in the first one."""
    source, first = resolved.source, 1 if _margins(resolved) else 0
    for own in list(_passes(resolved))[first:]:
        if isinstance(source, ResolvedSource) and isinstance(source.mask, ResolvedOutpaint):
            mask = source.mask
            around = Margins(mask.left, mask.right, mask.top, mask.bottom)
            yield Grow(source.image, around, None, 0, own.size, own.prepared)
        elif isinstance(source, ResolvedSource):
            yield Prepare(source, own.size, own.prepared)
        yield from _encoded(resolved, own)


def _encoded(resolved: Resolved, own: _Pass) -> Iterator[Stage]:
    """What is prepared, encoded, and the regions placed."""
    model, edges, source = own.model, own.edges, resolved.source
    soft = _softness(source).kind == "soft"
    if isinstance(source, ResolvedSource):
        yield EncodeImage(model, own.size, own.prepared, own.known, edges, soft, resolved.vae_strips)
    where = None if isinstance(source, NoSource) else own.prepared
    if isinstance(resolved.channels, DepthChannels):
        yield EncodeDepth(model, own.size, resolved.channels.depth, where, own.channels)
    elif isinstance(resolved.channels, (MaskedChannels, ImageChannels)):
        strips = resolved.vae_strips
        yield EncodeChannels(model, own.size, resolved.channels, where, own.channels, edges, soft, strips)
    if isinstance(resolved.regions, ResolvedRegions):
        whole = own.size if own.window is None else resolved.size
        yield Place(model, resolved.regions, whole, own.placed, own.window)
    yield from (steered.stage for steered in _steered(resolved, own))


class _Steered(NamedTuple):
    """One thing that steers a pass: the stage that makes what its networks read, and what enters the denoiser."""

    stage: Stage
    steers: tuple[Steer, ...]


def _steered(resolved: Resolved, own: _Pass) -> Iterator[_Steered]:
    """What steers a pass, in order; what has no weight is left out."""
    whole, edges = own.size if own.window is None else resolved.size, _seen_edges(resolved, own)
    source = None if isinstance(resolved.source, NoSource) else own.prepared
    for number, control in enumerate(resolved.steering):
        if isinstance(control, ResolvedPerson) or not _acts(control, own):  # who is in prompts: see `_persons`
            continue
        span, name = Span(control.start, control.end), f"{own.out.name}: hint {number}"
        if isinstance(control, ResolvedControl):
            hint: Key[Hint] = Key(name)
            lies = whole, own.window, source, _is_source(resolved, control.image)
            stage = Annotate(own.model, control, own.size, hint, *lies)
            acts = control.weight, span, control.mode, edges
            steer = ByHint(
                control.network, control.type, hint, *acts, fades=_fades(control, own), layers=control.layers
            )
            yield _Steered(stage, (steer,))
        elif isinstance(control, ResolvedExample):
            latent: Key[Tensor] = Key(name)
            stage = EncodeExample(own.model, control, own.size, latent, resolved.vae_strips)
            yield _Steered(stage, (ByExample(latent, control.weight, span, _fidelity(control, own)),))
        elif isinstance(control, ResolvedFace):
            face: Key[Looked] = Key(name)
            place: Key[Hint] = Key(f"{name}, where it is")
            lies = whole, own.window, source, _is_posed(resolved, control)
            tells = own.number == "first" or control.passes == "second"
            stage = ReadFace(own.model, control, own.size, face, place, *lies, tells=tells)
            yield _Steered(stage, tuple(_by_face(control, face, place, span, edges)))
        else:
            looked: Key[Looked] = Key(name)
            stage = Look(own.model, control, own.size, looked, whole, own.window, source)
            steer = ByReference(control.network, looked, control.weight, span, dict(control.blocks))
            yield _Steered(stage, (steer,))


LINES = frozenset({"canny", "mlsd"})
"""Annotators that draw fine lines."""


def _fades(control: ResolvedControl, own: _Pass) -> bool:
    """Fine lines are too hard on the larger image of a second pass, which has enough of them already."""
    return control.mode != "balanced" or (own.number == "second" and control.annotator in LINES)


def _fidelity(example: ResolvedExample, own: _Pass) -> float:
    """In a second pass negative prompts look at the image too, but where the image is to win."""
    return 0.0 if own.number == "second" and example.fidelity < 1 else example.fidelity


def _acts(control: ResolvedSteering, own: _Pass) -> bool:
    return bool(control.weight) and control.passes in {"both", own.number}


def _by_face(face: ResolvedFace, looked: Key[Looked], place: Key[Hint], span: Span, edges: Seamless) -> Iterator[Steer]:
    """looked, place: where what is read of the face, and the hint of where it is, are."""
    yield ByReference(face.network, looked, face.weight, span, dict(face.blocks))
    own = face.identity
    if isinstance(own, ResolvedIdentity) and own.weight:
        yield ByFace(own.network, face.network, looked, place, own.weight, span, edges)


def _with_faces(networks: Adapted, resolved: Resolved, own: _Pass) -> Adapted:
    """What a denoiser is borrowed with, and the LoRAs that belong to the faces of a pass, behind it: each once, however
    many faces its file reads."""
    faces = [one for one in resolved.steering if isinstance(one, (ResolvedFace, ResolvedPerson)) and _acts(one, own)]
    found: dict[AdapterRef, float] = {}
    for face in faces:
        found[_lora_of(face)] = max(face.lora, found.get(_lora_of(face), 0.0))
    brought = tuple(Merged(file, strength) for file, strength in found.items() if strength)
    return replace(networks, merged=(*networks.merged, *brought)) if brought else networks


def _lora_of(face: ResolvedFace | ResolvedPerson) -> AdapterRef:
    file = face.network
    digits = file.sha256[:SHORT_TENSORS]
    return AdapterRef(name=file.name, path=file.path, sha256=file.sha256, digits=digits, kind=face.kind)


def _is_source(resolved: Resolved, image: ImageRef) -> bool:
    """Whether an image is the one to start from."""
    return isinstance(resolved.source, ResolvedSource) and image.sha256 == resolved.source.image.sha256


def _is_posed(resolved: Resolved, face: ResolvedFace) -> bool:
    """Whether a face is where it is in the image to start from."""
    own = face.identity
    return isinstance(own, ResolvedIdentity) and _is_source(resolved, own.pose)


def _start(source: NoSource | ResolvedSource) -> Start:
    if isinstance(source, NoSource):
        return FromNoise()
    content = source.mask.content if isinstance(source.mask, ResolvedMask) else "original"
    return FromLatent(KNOWN, source.strength, source.exact_steps, source.noise_multiplier, source.extra_noise, content)


def _combined(source: NoSource | ResolvedSource, known: Key[Known]) -> tuple[Wrap, ...]:
    if isinstance(source, NoSource) or isinstance(source.mask, NoMask):
        return ()
    soft = _softness(source)
    return (InMask(known, None if isinstance(soft, NoSoftness) else Softness(soft.bias, soft.strength, soft.boost)),)


def _finish(resolved: Resolved, last: _Pass) -> Finish:
    source, soft = resolved.source, _softness(resolved.source)
    if isinstance(source, NoSource):
        return AsItIs()
    if isinstance(soft, NoSoftness):
        return OnSource(last.prepared, source.color_correction)
    seen = Sensitivity(soft.influence, soft.threshold, soft.contrast, soft.strength)
    return OnSource(last.prepared, source.color_correction, WhatChanged(last.known, seen))


def _softness(source: NoSource | ResolvedSource) -> NoSoftness | ResolvedSoftness:
    if isinstance(source, ResolvedSource) and isinstance(source.mask, ResolvedMask):
        return source.mask.soft
    return NoSoftness()


class _Shown(NamedTuple):
    """Whether previews are shown, and how."""

    previews: bool
    matrix: RgbMatrix | None
    tiny: bool


def _stages(
    resolved: Resolved, images: Sequence[_Twice], max_batch: int | None, shown: _Shown, there: Collection[int]
) -> Iterator[Stage]:
    most = max_batch if len(_margins(resolved)) <= 1 else 1
    for batch in _chunks(images, resolved.batch_size):
        for alike in _alike(batch):
            for group in _chunks(alike, most or resolved.batch_size):
                samples = tuple(image.first for image in group)
                if all(sample.index in there for sample in samples):
                    continue
                if isinstance(resolved.channels, NoisedChannels):
                    yield EncodeSmall(resolved.model, samples, resolved.channels, resolved.noise.source, CHANNELS)
                yield from _grown(resolved, samples, max_batch, shown)
                yield from _sampled(resolved, group, max_batch, shown)
                *_, last = _passes(resolved)
                finish, strips = _finish(resolved, last), resolved.vae_strips
                later = resolved.postprocess
                told = isinstance(later, NoPostprocess)
                yield Decode(last.last, samples, LATENTS, IMAGES, finish, last.edges, told=told, strips=strips)
                if not isinstance(later, NoPostprocess):
                    yield Postprocess(samples, later, IMAGES)
                for output in resolved.output.folders:
                    yield Save(samples, len(images), output, IMAGES)


def _margins(resolved: Resolved) -> tuple[Margins, ...]:
    """What is added to the canvas in each pass."""
    source = resolved.source
    if isinstance(source, NoSource) or not isinstance(source.mask, ResolvedOutpaint):
        return ()
    mask, (width, height) = source.mask, resolved.size
    inner = width - mask.left - mask.right, height - mask.top - mask.bottom
    return tuple(passes(inner, Margins(mask.left, mask.right, mask.top, mask.bottom), PASS_STEP))


def _grown(resolved: Resolved, samples: tuple[Sample, ...], max_batch: int | None, shown: _Shown) -> Iterator[Stage]:
    """The stages of outpainting before the last Diffuse: each pass but the last is generated to its end."""
    added = _margins(resolved)
    if isinstance(resolved.source, NoSource) or not added:
        return
    own = _windows(resolved, added)
    for number, margins in enumerate(added):
        if number:
            yield _diffuse(resolved, own[number - 1], samples, max_batch, shown)
            finish = _finish(resolved, own[number - 1])
            out, strips = own[number - 1].out, resolved.vae_strips
            yield Decode(own[number - 1].last, samples, out, IMAGES, finish, told=False, strips=strips)
        before = IMAGES if number else None
        yield Grow(resolved.source.image, margins, before, samples[0].index, own[number].size, own[number].prepared)
        yield from _encoded(resolved, own[number])


def _windows(resolved: Resolved, added: Sequence[Margins]) -> list[_Pass]:
    """The passes of outpainting: the first pass of the request at the size that the canvas has by then, whose edges do
    not meet before it is whole."""
    first, *_ = _passes(resolved)
    found, seen = [first], Box(0, 0, *first.size)
    for margins in reversed(added[1:]):
        left, top, right, bottom = seen
        seen = Box(left + margins.left, top + margins.top, right - margins.right, bottom - margins.bottom)
        found.insert(0, replace(first, size=Size(*seen.size), edges=EDGES, window=seen))
    return found


def _sampled(resolved: Resolved, group: Sequence[_Twice], max_batch: int | None, shown: _Shown) -> Iterator[Stage]:
    """The latents of a group, by one pass or by two with what enlarges between them."""
    first, *rest = _passes(resolved)
    samples = tuple(image.first for image in group)
    yield _diffuse(resolved, first, samples, max_batch, shown)
    for own in rest:
        assert isinstance(resolved.hires, ResolvedHires)
        hires, larger = resolved.hires, tuple(image.second for image in group)
        yield Enlarge(
            model=first.last,
            into=own.model,
            samples=larger,
            scaled=hires.scaled,
            size=hires.size,
            upscaler=hires.upscaler,
            file=hires.upscaler_file,
            source=first.out,
            out=ENLARGED,
            strips=resolved.vae_strips,
            edges=own.edges,
        )
        yield _diffuse(resolved, own, larger, max_batch, shown)


def _diffuse(
    resolved: Resolved, own: _Pass, samples: tuple[Sample, ...], max_batch: int | None, shown: _Shown
) -> Diffuse:
    """The samples' prompts name the same networks."""
    own_networks, refiner = borrowed(samples[0].prompt.networks, resolved), own.refiner
    regional = _regional(samples[0], resolved)
    return Diffuse(
        model=own.model,
        samples=samples,
        size=own.size,
        sampling=own.sampling,
        guidance=own.guidance,
        noise=resolved.noise,
        states=encoded_with(own.states, own_networks.text),
        out=own.out,
        start=own.start,
        inside=_views(resolved, own, AT_ONCE if max_batch is None else max(1, max_batch // len(samples))),
        layout=_layout(resolved.regions, own),
        combine=_combined(resolved.source, own.known),
        adapter=_adapter(resolved, own),
        steers=tuple(steer for steered in _steered(resolved, own) for steer in steered.steers),
        channels=None if isinstance(resolved.channels, NoChannels) else own.channels,
        image_scale=resolved.channels.scale if isinstance(resolved.channels, ImageChannels) else 1.0,
        adapted=_with_faces(own_networks.denoiser, resolved, own),
        regional=tuple(
            Regional(encoded_with(own.states, each.text), _with_faces(each.denoiser, resolved, own))
            for each in regional
        ),
        previews=shown.previews,
        matrix=shown.matrix if own.model == resolved.model else None,
        tiny=shown.tiny and own.model == resolved.model,
        refiner=None if refiner is None else _taking_over(refiner, own_networks, regional),
        shown=_told(resolved),
    )


def _told(resolved: Resolved) -> Telling:
    """What networks are told of the image beside its size, which is each pass' own."""
    level = resolved.channels.level if isinstance(resolved.channels, NoisedChannels) else 0
    return Telling(0, 0, level=level, positively=_said(resolved.sizes), negatively=_said(resolved.negative_sizes))


def _said(sizes: ResolvedSizes) -> Said:
    return Said(_upright(sizes.original), sizes.top, sizes.left, _upright(sizes.target), sizes.score)


def _upright(said: AsMade | SaidSize) -> tuple[int, int] | None:
    """Height before width."""
    return (said.size.height, said.size.width) if isinstance(said, SaidSize) else None


def _taking_over(refiner: ResolvedRefiner, networks: Borrowed, regional: Sequence[Borrowed]) -> Refiner:
    """networks: what the parts of the first model are borrowed with; regional: in each region, if otherwise."""

    def taken(own: Borrowed) -> Regional:
        text, denoiser = (own.text, own.denoiser) if refiner.alike else (PLAIN, PLAIN)
        return Regional(encoded_with(REFINER_STATES, text), denoiser)

    own, by_calls = taken(networks), refiner.by == "calls"
    return Refiner(
        refiner.model, own.states, refiner.switch_at, by_calls, own.adapted, tuple(taken(each) for each in regional)
    )


def _layout(regions: NoRegions | ResolvedRegions, own: _Pass) -> Layout:
    """In a second pass things have their places already, and no region needs a ground."""
    if isinstance(regions, NoRegions):
        return Everywhere()
    weights = tuple(part.weight for part in regions.parts)
    layout = InAttention if regions.method == "attention" else InRegions
    return layout(own.placed, weights, regions.ground if own.number == "first" else 0.0)


def _views(resolved: Resolved, own: _Pass, at_once: int) -> tuple[Wrap, ...]:
    views = resolved.views
    return () if isinstance(views, NoViews) else (InViews(views, own.edges, at_once),)


def _adapter(resolved: Resolved, own: _Pass) -> PortAdapter:
    edges = _seen_edges(resolved, own)
    return NoPorts() if edges == EDGES else WithoutEdges(edges)


def _seen_edges(resolved: Resolved, own: _Pass) -> Seamless:
    """Where opposite edges meet of what networks see. Where a view is a part of the canvas only, its own do not: the
    views go over the canvas' instead."""
    views = resolved.views
    if isinstance(views, NoViews):
        return own.edges
    across, down = (view >= side for view, side in zip(views.size, own.size, strict=True))
    return Seamless(own.edges.x and across, own.edges.y and down)


def _alike(images: Sequence[_Twice]) -> Iterator[tuple[_Twice, ...]]:
    """Neighbours whose prompts have the same parts, which guidance can take together, and name the same networks."""
    for _, alike in groupby(images, lambda image: (_likeness(image.first), _likeness(image.second))):
        yield tuple(alike)


def _likeness(sample: Sample) -> tuple[object, ...]:
    prompts = (sample.prompt, *sample.regions)
    return _weights(sample), tuple(tuple((own.type, own.arguments) for own in prompt.networks) for prompt in prompts)


def _weights(sample: Sample) -> tuple[tuple[float, ...], ...]:
    return tuple(prompt.weights for prompt in (sample.prompt, *sample.regions))


def _chunks(images: Sequence[_Twice], length: int) -> Iterator[tuple[_Twice, ...]]:
    for start in range(0, len(images), length):
        yield tuple(images[start : start + length])
