"""Generating requests on this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.embedded import EMBEDDED
from atelier.checkpoints.preview import rgb_matrix
from atelier.checkpoints.tiny_autoencoder import is_tiny, tiny_beside
from atelier.diffusion.catalogue import samplers
from atelier.errors import BadFile, BadInput, about, shortened
from atelier.families.family import Family
from atelier.pipeline.plan import plan
from atelier.pipeline.resources import has_tiny
from atelier.pipeline.run import run
from atelier.pipeline.tape import Tape
from atelier.prompt import Warn, checked, emphasis, silent, without_comments
from atelier.request.events import Event, Failed, Hashing, ImageReady, Warned
from atelier.request.infotext import Settings, settings
from atelier.request.model import Provenance, Request
from atelier.request.resolve import Measure, Method, Offer, ignored, pass_sizes, resolve
from atelier.request.resolved import ModelRef, NoHires, NoRefiner, Resolved, ResolvedSampling, Size
from atelier.request.table import given
from atelier.runtime.device import Device
from atelier.runtime.images import Images
from atelier.runtime.library import Library, Model, hash_in
from atelier.runtime.networks import Networks
from atelier.runtime.notes import contradictions, doubted, overruled, unheard
from atelier.runtime.offer import (
    check_clip_skip,
    check_refiner,
    check_schedule,
    check_second,
    check_steps,
    check_suits,
    defaults_of,
    drawing,
    finishers_of,
    other_than_first,
    own_sampling,
    requested_method,
    second_method,
    source_upscaler_of,
    upscaler_of,
)
from atelier.runtime.resources import LocalResources, Others, denoiser_weights
from atelier.runtime.steering import Steerings
from atelier.runtime.store import Destination, remove_empty
from atelier.runtime.upscalers import UpscalerNames
from atelier.runtime.words import Words
from atelier.weights.archive import counted
from atelier.weights.hashes import HashCache

if TYPE_CHECKING:
    from PIL.Image import Image

HASH_DIGITS = 10
"""Of a model's SHA-256 in infotexts."""
MIN_DIGITS = 8
"""So few digits of a hash are too few to find a model by."""
OWN_PART = frozenset({"", "automatic", "none"})
"""What A1111 calls the model's own autoencoder, folded."""
TINY_NAMES = frozenset({"taesd", "taesdxl", "taesd3"})
"""What the author of the tiny autoencoders calls them: one of a model's family, beside it."""
FIRST = "that of the first pass"
"""The model that is taken where a second pass names none, to say to a user."""
OLD_DIGITS = 8
"""Of the hash that A1111 wrote before 2023: of a part of the file, so that nothing here has it."""

_Other = tuple[Checkpoint, ModelRef]
"""A model beside the first, opened, and its name."""


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A generated image: a PIL image, the seed that makes it again, and A1111's text of parameters."""

    image: Image
    seed: int
    infotext: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the image with its infotext: to a file, or as a PNG under a numbered name into a folder.

        A file is a PNG, JPEG, WebP (lossless) or AVIF by its suffix. Returns where it lies. Raises BadFile,
        StorageFull or BadInput, leaving nothing half-written.
        """
        destination = Destination.of(os.fspath(path))
        destination.prepare()
        return destination.save(self.image, self.infotext, index=0, count=1, seed=self.seed)


class Engine:
    """Generates with the models of one library on one device.

    hashes: remembers what files hash to. version: of Atelier, for the infotexts. budget: bytes of networks that stay in
    memory between requests. words: where styles and wildcards are. families: those of the models, None = all there are.
    images: where those are that requests name, None = files by path, and data: URIs.
    `resources` is what its runs borrow from.
    """

    def __init__(
        self,
        device: Device,
        library: Library,
        hashes: HashCache,
        *,
        version: str,
        budget: int = 0,
        words: Words | None = None,
        families: Iterable[Family] | None = None,
        images: Images | None = None,
    ) -> None:
        self.device, self.library, self.words = device, library, words or Words()
        self._hashes, self._version = hashes, version
        self.resources = LocalResources(device, budget, families, hashes, images)

    def resolve(self, request: Request, warn: Warn = silent) -> Resolved:
        """Leaves nothing of a request open; writes nothing. Raises BadInput for what cannot be generated."""
        return self._settled(request, warn)[0]

    def said(self, resolved: Resolved) -> tuple[Settings, ...]:
        """What the infotexts of a resolved request's images will say, but for the hashes of their pixels."""
        own, second = self._own_samplings(resolved)
        provenance = self._provenance(resolved)
        return tuple(settings(resolved, index, own, provenance, second) for index in range(len(resolved.samples)))

    def hashing(self, request: Request) -> tuple[Hashing, ...]:
        """What to tell before `resolve` or `events`: weights that have to be hashed first, which takes time."""
        first, parts = self._find(request, silent), self._parts(request, silent)
        opened = {first.name: self.resources.open(first.path, parts)}
        opened |= {model.name: self.resources.open(model.path) for model in self._named_others(request)}
        return tuple(Hashing(name) for name, model in opened.items() if self._is_unhashed(model))

    def _is_unhashed(self, model: Checkpoint) -> bool:
        return any(self._hashes.known(file) is None for file in model.files)

    def _parts(self, request: Request, warn: Warn) -> Others:
        """Where parts are taken from in place of the model's own. Raises BadInput for what is not there; where the
        request is lenient, the model's own is taken."""
        with about("vae"):
            named = request.vae or ""
            find = self.library.autoencoder if named.casefold() not in TINY_NAMES else partial(self._beside, request)
            vae = self._part(named, find, request, warn)
        with about("text_encoders"):
            texts = [self._part(name, self.library.text_encoder, request, warn) for name in request.text_encoders]
        there = tuple(path for path in texts if path is not None)
        return Others(text_encoders=there, tiny=vae) if vae is not None and is_tiny(vae) else Others(vae, there)

    def _beside(self, request: Request, name: str) -> Path:
        """The tiny autoencoder of that name for the model of a request. Raises BadInput."""
        model = self.resources.open(self._find(request, silent).path)
        path, own = tiny_beside(model), model.family.tiny
        if name.casefold() != own:
            raise BadInput(f"{name} is not for the latents of {model.name}: {own or 'no tiny autoencoder'} is")
        if path is None:
            raise BadInput(f"{name} is not there: put {own}_decoder.safetensors beside {model.name} or into VAE-approx")
        return path

    def _part(self, name: str, find: Callable[[str], Path], request: Request, warn: Warn) -> Path | None:
        if name.strip().casefold() in OWN_PART:
            return None
        try:
            return find(name)
        except BadInput as error:
            if not request.prompting.lenient:
                raise BadInput(f"{error}; or --lenient takes the model's own") from error
            warn(f"{error}; generated with the model's own")
            return None

    def _named_others(self, request: Request) -> Iterator[Model]:
        """The models that a second pass and the refining name, if there are such."""
        for name in filter(None, (_second_name(request), _refiner_name(request))):
            with suppress(BadInput):
                yield self.library.find(name)

    def work(self, request: Request) -> int:
        """How much the largest call of a denoiser does: weights times positions of the latents, with guidance.

        A second pass and its model, the refiner, the canvas of outpainting and views count; a request whose sizes
        cannot be made counts as one of the model's own size, and a model that is not there as none: `resolve` tells.
        """
        first = self.resources.open(self._find(request, silent).path, self._parts(request, silent))
        second, refiner = self._opened(_second_name(request)) or first, self._opened(_refiner_name(request))
        rows = 2 * min(request.batch_size, self.device.max_batch or request.batch_size)
        calls = [
            denoiser_weights(model) * rows * pixels // model.latent.factor**2
            for own, pixels in zip((first, second), _pixels(request, first, self.resources.images.size), strict=False)
            for model in (own, refiner)
            if model is not None
        ]
        return max(calls)

    def _opened(self, name: str | None) -> Checkpoint | None:
        """The model that a request names beside the first; None where it names none, or one that is not there."""
        with suppress(BadInput):
            return None if name is None else self.resources.open(self.library.find(name).path)
        return None

    def events(self, request: Request, *, previews: float | None = None) -> Generator[Event]:
        """Generates a request as a stream of events; closing it stops between two steps.

        previews: seconds between previews, None for none. Raises BadInput, at the call, for a request that cannot be
        generated; what fails later is the event Failed.
        """
        resolved, warnings = self.settle(request)
        return self._told(warnings, resolved, previews)

    def settle(self, request: Request) -> tuple[Resolved, list[str]]:
        """A request resolved, and what is to be said of it: what is missing, not meant or without effect. Writes
        nothing. Raises BadInput for what cannot be generated."""
        warnings: list[str] = []
        resolved, method = self._settled(request, warnings.append)
        warnings += [*_without_effect(request), *_unread(request, method), *overruled(request, method)]
        models = [(model, self.resources.checkpoint(model)) for model in _models(resolved)]
        warnings += [*unheard(request, [model for _, model in models]), *doubted(models)]
        return resolved, list(dict.fromkeys(warnings))

    def run(
        self,
        resolved: Resolved,
        *,
        previews: float | None = None,
        tape: Tape | None = None,
        there: Collection[int] = (),
    ) -> Generator[Event]:
        """The same for a request that was resolved before, here or elsewhere.

        tape: what earlier runs predicted, and where this one's predictions are kept; there: the indices of images that
        an earlier run finished, which are not made again where all of their batch are there. Raises BadInput, at the
        call, where the model is not there, or is another one now.
        """
        _check_kind(resolved, Resolved, "give what Engine.resolve returns")
        return self._told([], resolved, previews, tape, there)

    def fingerprint(self, resolved: Resolved) -> str:
        """What tells whether predictions of one run are those of another, to the bit: the request, and who computes."""
        own = self._provenance(resolved)
        capability = torch.backends.cpu.get_cpu_capability()
        said = [resolved.to_json(), own.version, own.dtype, own.device, own.libraries, capability]
        return hashlib.sha256("\n".join((*said, str(torch.get_num_threads()))).encode()).hexdigest()

    def _told(
        self,
        warnings: list[str],
        resolved: Resolved,
        previews: float | None,
        tape: Tape | None = None,
        there: Collection[int] = (),
    ) -> Generator[Event]:
        """The events of a resolved request, warnings first."""
        model = self.resources.checkpoint(resolved.model)
        methods, (own, second) = _samplings(resolved), self._own_samplings(resolved)
        stages = plan(
            resolved,
            own,
            self._provenance(resolved),
            second_own=second,
            max_batch=1 if any(samplers()[own.sampler].alone for own in methods) else self.device.max_batch,
            previews=previews is not None,
            matrix=None if previews is None else rgb_matrix(model),
            tiny=previews is not None and (has_tiny(resolved.model) or tiny_beside(model) is not None),
            there=there,
            warn=warnings.append,
        )
        made = [path for folder in resolved.output.folders for path in Destination.of(folder).prepare()]
        return _after(warnings, run(stages, self.resources, previews=previews, tape=tape), made)

    def _own_samplings(self, resolved: Resolved) -> tuple[ResolvedSampling, ResolvedSampling]:
        """What each pass, the first one again if there is no other, does where nobody asks for anything else."""
        first, again = _samplings(resolved)[0], _samplings(resolved)[-1]
        last = resolved.model if isinstance(resolved.hires, NoHires) else resolved.hires.model
        models = self.resources.checkpoint(resolved.model), self.resources.checkpoint(last)
        return own_sampling(models[0], first), own_sampling(models[1], again)

    def _settled(self, request: Request, warn: Warn) -> tuple[Resolved, Method]:
        """The request resolved, and the method that it was resolved with."""
        model, reference = self._first(request, warn)
        request = self._worded(request)
        _check_lengths(request)
        method = requested_method(model, request)
        offer, again, refiner = self._offer(request, model, reference, method, warn)
        resolved = resolve(request, offer)
        check_suits(resolved, model, again)
        check_second(resolved, model, again)
        if refiner is not None:
            check_refiner(resolved, refiner, model, again)
        check_schedule(resolved, model, warn)
        check_steps(resolved)
        check_clip_skip(resolved, model)
        resolved = Networks(self.library, self._hashes, model, again, request.prompting, warn).settle(resolved)
        steering = Steerings(self.library, self.resources.hash_of, model, again, self.resources.images.refer, warn)
        resolved = steering.settle(resolved, request)
        if request.steps not in {None, resolved.sampling.steps}:
            warn(f"{request.steps} steps are ignored: the list of sigmas has {resolved.sampling.steps}")
        return resolved, method

    def _first(self, request: Request, warn: Warn) -> _Other:
        """The model that the request names, with its parts."""
        found = self._find(request, warn)
        parts = self._parts(request, warn)
        with about("model"), _about_parts(parts):
            model = self.resources.open(found.path, parts)
            reference = self.resources.refer(found.name, model, parts)
        _check_hash(request, reference, warn)
        if model.surplus:
            title = model.family.title
            warn(f"{found.name}: {counted(model.surplus)} left unread, which are no part of a {title} model")
        return model, reference

    def _offer(
        self, request: Request, model: Checkpoint, reference: ModelRef, method: Method, warn: Warn
    ) -> tuple[Offer, Checkpoint, Checkpoint | None]:
        """What the request can become, the model of its last pass, and that which refines."""
        mode = emphasis(request.prompting.emphasis).name
        draw = drawing(self.words.wildcards, warn)
        enlargers = UpscalerNames(self.library), self.resources.refer_upscaler
        between, before = upscaler_of(request, *enlargers, warn), source_upscaler_of(request, *enlargers, warn)
        second = self._other(_second_name(request), "hires_checkpoint", FIRST, request, warn)
        again, other = second or (model, reference)
        named = self._other(_refiner_name(request), "refiner", "no refiner", request, warn)
        refining = None if named is None or named[1] == reference else named
        offer = Offer(
            reference,
            defaults_of(model),
            method,
            mode,
            draw,
            self.resources.images.refer,
            self.resources.images.size,
            between,
            before,
            finishers_of(request, *enlargers, warn),
            second_method(again, request),
            other,
            None if refining is None else refining[1],
            refiner_alike=refining is not None and refining[0].family.name == model.family.name,
        )
        return offer, again, None if refining is None else refining[0]

    def _other(self, name: str | None, field: str, instead: str, request: Request, warn: Warn) -> _Other | None:
        """The model that a field names beside the first, None where none is. Raises BadInput for one that is not there;
        where the request is lenient, there is none."""
        if not name:
            return None
        try:
            found = self.library.find(name)
        except BadInput as error:
            known = self._hashed(hash_in(name))
            if known is None and not request.prompting.lenient:
                raise BadInput(f"{field}: {error}; or --lenient takes {instead}") from error
            if known is None:
                warn(f"{field}: {error}; generated with {instead}")
                return None
            found = known
        parts = replace(self._parts(request, silent), text_encoders=())
        with about(field), _about_parts(parts):
            model = self.resources.open(found.path, parts)
            return model, self.resources.refer(found.name, model, parts)

    def _worded(self, request: Request) -> Request:
        """With the styles around the prompts, also of a second pass that has its own, and without comments."""
        hires = request.hires
        if hires is not None:
            both = self._styled(hires.prompt or "", hires.negative_prompt or "", request)
            own = {name: text for name, text in both.items() if getattr(hires, name)}
            hires = hires.model_copy(update=own)
        styled = self._styled(request.prompt, request.negative_prompt, request)
        return request.model_copy(update={**styled, "hires": hires})

    def _styled(self, prompt: str, negative_prompt: str, request: Request) -> dict[str, str]:
        with about("styles"):
            styled = self.words.styled(prompt, negative_prompt, request.prompting.styles)
        return dict(zip(("prompt", "negative_prompt"), map(without_comments, styled), strict=True))

    def generate(self, request: Request) -> list[GeneratedImage]:
        """Generates a request. Raises AtelierError."""
        made: list[GeneratedImage] = []
        with closing(self.events(request)) as events:
            for event in events:
                match event:
                    case ImageReady(_, seed, image, infotext):
                        made.append(GeneratedImage(image, seed, infotext))
                    case Failed(error):
                        raise error
                    case _:
                        pass
        return made

    def _find(self, request: Request, warn: Warn) -> Model:
        """By name or path; where that is not said, or not there, by the hash, among files that were hashed before."""
        _check_kind(request, Request, "give atelier.Request(prompt='a red apple'), or use atelier.generate")
        try:
            hashed = None if request.model else self._hashed(request.model_hash or "")
            return hashed or self.library.find(request.model)
        except BadInput as error:
            found = self._hashed(request.model_hash or "")
            if found is not None:
                return found
            if not request.prompting.lenient:
                raise
            warn(f"{error}; generated with the model {EMBEDDED!r}")
            return self.library.find()

    def _hashed(self, digits: str) -> Model | None:
        """The model whose hash begins so, among files that were hashed before."""
        wanted = digits.lower()
        if len(wanted) < MIN_DIGITS:
            return None
        files = (model for _, model in self.library.everything() if model.path.is_file())
        return next((m for m in files if (self._hashes.known(m.path) or "").startswith(wanted)), None)

    def _provenance(self, resolved: Resolved) -> Provenance:
        dtype = self.resources.dtype(resolved.model)
        return Provenance(self._version, dtype, str(self.device.torch_device), f"torch {torch.__version__}")


@contextmanager
def _about_parts(parts: Others) -> Generator[None]:
    """Marks what is raised of a file that the request names as a part."""
    try:
        yield
    except BadFile as error:
        if error.path in {str(parts.vae), str(parts.tiny)}:
            error.field = "vae"
        elif error.path in map(str, parts.text_encoders):
            error.field = "text_encoders"
        raise


def _pixels(request: Request, model: Checkpoint, measure: Measure) -> tuple[int, ...]:
    """Of each pass: of the largest image that the denoiser is shown at once."""
    own = defaults_of(model)
    try:
        sizes = pass_sizes(request, own, measure)
    except (BadInput, BadFile):
        sizes = (Size(own.width, own.height),)
    views = request if request.sd_upscale is not None else request.views
    if views is None:
        return tuple(size.width * size.height for size in sizes)
    width, height = views.width or own.width, views.height or own.height
    return tuple(min(size.width, width) * min(size.height, height) for size in sizes)


def _second_name(request: Request) -> str | None:
    """The model that a second pass names, None for that of the first."""
    hires = request.hires
    return None if hires is None or not hires.is_asked else other_than_first(hires.checkpoint)


def _refiner_name(request: Request) -> str | None:
    """The model that the refining names; A1111's None is none, and one that never takes over is none."""
    name = request.refining.refiner
    return None if name is None or name == "None" or request.refining.refiner_switch_at == 1 else name


def _models(resolved: Resolved) -> list[ModelRef]:
    """All that act."""
    again = [] if isinstance(resolved.hires, NoHires) else [resolved.hires.model]
    later = [] if isinstance(resolved.refiner, NoRefiner) else [resolved.refiner.model]
    return [resolved.model, *again, *later]


def _samplings(resolved: Resolved) -> list[ResolvedSampling]:
    """Of the first pass and, if there is one, the second."""
    return [resolved.sampling, *(() if isinstance(resolved.hires, NoHires) else (resolved.hires.sampling,))]


def _after(warnings: Sequence[str], events: Generator[Event], made: Sequence[Path]) -> Generator[Event]:
    """The events of a run behind warnings, each of which is told once; of the folders made for it those that stay empty
    are removed again."""
    try:
        yield from map(Warned, dict.fromkeys(warnings))
        yield from events
    finally:
        remove_empty(made)


def _check_kind(given: object, wanted: type[Request | Resolved], example: str) -> None:
    """For callers without types. Raises BadInput."""
    if not isinstance(given, wanted):
        raise BadInput(f"{shortened(repr(given))} is no {wanted.__name__}: {example}")


def _check_lengths(request: Request) -> None:
    """Raises BadInput for a prompt that is too long, also of a second pass."""
    checked(request.prompt, "prompt")
    checked(request.negative_prompt, "negative prompt")
    if request.hires is not None:
        checked(request.hires.prompt or "", "hires_prompt")
        checked(request.hires.negative_prompt or "", "hires_negative_prompt")


def _without_effect(request: Request) -> list[str]:
    """What a request says without what it needs to have an effect."""
    told = contradictions(request)
    if request.hires is not None and request.hires.is_asked:
        return told
    if hires := sorted(name for name in given(request) if name.startswith("hires_")):
        told.append(f"{', '.join(hires)}: no second pass is asked for, give hires_upscale (--hires) or hires_resize")
    if "denoising_strength" in given(request) and request.source is None:
        told.append(
            "denoising_strength: needs an image to start from: name it with --image, or it begins with noise alone"
        )
    return told


def _unread(request: Request, method: Method) -> list[str]:
    """The options asked for that neither the sampler nor the schedule reads."""
    given_names, own = ignored(request, method), method.own
    return [f"{', '.join(given_names)}: {own.sampler} with {own.scheduler} has no such option"] if given_names else []


def _check_hash(request: Request, model: ModelRef, warn: Warn) -> None:
    """Tells where a model is not the one whose hash is wanted."""
    wanted = (request.model_hash or "").lower()
    if wanted and not model.sha256.startswith(wanted):
        old = " (8 digits may be A1111's hash of before 2023, which is another)" if len(wanted) == OLD_DIGITS else ""
        warn(f"model hash {wanted} was asked for; {model.name!r} has {model.sha256[:HASH_DIGITS]}{old}")
