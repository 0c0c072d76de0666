"""Painting requests on this machine."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atelier.diffusion.catalogue import DEFAULT_SAMPLER, resolve_sampler, resolve_schedule, samplers
from atelier.errors import BadInput
from atelier.families.checkpoint import Checkpoint
from atelier.families.embedded import EMBEDDED
from atelier.pipeline.plan import NO_FILES, plan
from atelier.pipeline.run import run
from atelier.prompt import Warn, silent, without_comments
from atelier.request.events import Event, Failed, ImageReady, Warned
from atelier.request.fields import SIDE_STEP, STEPS
from atelier.request.model import ModelRef, Provenance, Request, Resolved
from atelier.request.resolve import Defaults, Offer, resolve
from atelier.request.table import given
from atelier.runtime.device import Device
from atelier.runtime.library import Library, Model
from atelier.runtime.resources import ModelCache
from atelier.runtime.store import Destination
from atelier.runtime.words import Words
from atelier.weights.hashes import HashCache

if TYPE_CHECKING:
    from PIL.Image import Image

OPTIONS: Mapping[str, str] = {
    **{name: name for name in ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "sigma_min", "sigma_max", "rho")},
    "beta_alpha": "alpha",
    "beta_beta": "beta",
    "unipc_order": "order",
    "unipc_variant": "variant",
    "unipc_lower_order_final": "lower_order_final",
}
"""Fields of a request that only some samplers and schedules read, and what those call them."""
HASH_DIGITS = 10
"""Of a model's SHA-256 in infotexts."""


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A painted picture: a PIL image, the seed that makes it again, and A1111's text of parameters."""

    image: Image
    seed: int
    infotext: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the picture with its infotext: to a file, or as a PNG under a numbered name into a folder.

        A file is a PNG, JPEG, WebP (lossless) or AVIF by its suffix. Returns where it lies. Raises BadFile,
        StorageFull or BadInput, leaving nothing half-written.
        """
        destination = Destination.of(os.fspath(path))
        destination.prepare()
        return destination.save(self.image, self.infotext, picture=0, pictures=1, seed=self.seed)


class Engine:
    """Paints with the models of one library on one device.

    hashes: remembers what files hash to. version: of Atelier, for the infotexts. keep: the model that was used last
    stays in memory for the next request. words: where styles and wildcards are.
    """

    def __init__(
        self,
        device: Device,
        library: Library,
        hashes: HashCache,
        *,
        version: str,
        keep: bool = True,
        words: Words | None = None,
    ) -> None:
        self.device, self.library, self.words = device, library, words or Words()
        self._hashes, self._version = hashes, version
        self._cache = ModelCache(device, keep=keep)

    def resolve(self, request: Request, warn: Warn = silent) -> Resolved:
        """Leaves nothing of a request open. Raises BadInput for what cannot be painted, before any work is done."""
        found = self._find(request, warn)
        model = self._cache.open(found.path)
        _check_paints_from_text(model)
        reference = self._cache.refer(found.name, model, self._hashes)
        resolved = resolve(request, Offer(_method, reference, _defaults(model)))
        if request.output is not None:
            Destination.of(request.output).prepare()
        _check_hash(request, reference, warn)
        styled = self.words.styled(request.prompt, request.negative_prompt, request.prompting.styles)
        prompt, negative_prompt = map(without_comments, styled)
        steps = _steps(request, resolved, warn)
        return replace(resolved, prompt=prompt, negative_prompt=negative_prompt, steps=steps)

    def events(self, request: Request, *, previews: float | None = None) -> Generator[Event]:
        """Paints a request as a stream of events; closing it stops between two steps.

        previews: seconds between previews, None for none. Raises BadInput, at the call, for a request that cannot be
        painted; what fails later is the event Failed.
        """
        warnings: list[str] = []
        resolved = self.resolve(request, warnings.append)
        max_batch = 1 if samplers()[resolved.sampler].alone else self.device.max_batch
        has_wildcards = request.prompting.choices and "__" in resolved.prompt + resolved.negative_prompt
        files = self.words.wildcards() if has_wildcards else NO_FILES
        stages = plan(resolved, self._provenance(resolved), max_batch=max_batch, files=files, warn=warnings.append)
        warnings += [*_without_effect(request), *_unread(resolved)]
        return self._told(warnings, run(stages, self._cache, previews=previews))

    def generate(self, request: Request) -> list[GeneratedImage]:
        """Paints a request. Raises AtelierError."""
        pictures: list[GeneratedImage] = []
        with closing(self.events(request)) as events:
            for event in events:
                match event:
                    case ImageReady(_, seed, image, infotext):
                        pictures.append(GeneratedImage(image, seed, infotext))
                    case Failed(error):
                        raise error
                    case _:
                        pass
        return pictures

    def _find(self, request: Request, warn: Warn) -> Model:
        """By name or path; where that is not said, or not there, by the hash, among files that were hashed before."""
        try:
            return (None if request.model else self._hashed(request)) or self.library.find(request.model)
        except BadInput as error:
            found = self._hashed(request)
            if found is not None:
                return found
            if not request.prompting.lenient:
                raise
            warn(f"{error}; painted with the model {EMBEDDED!r}")
            return self.library.find()

    def _hashed(self, request: Request) -> Model | None:
        wanted = (request.model_hash or "").lower()
        if not wanted:
            return None
        files = (model for model in self.library.models() if model.path.is_file())
        return next((m for m in files if (self._hashes.known(m.path) or "").startswith(wanted)), None)

    def _provenance(self, resolved: Resolved) -> Provenance:
        dtype = self._cache.dtype(resolved.model)
        return Provenance(self._version, dtype, str(self.device.torch_device), f"torch {torch.__version__}")

    @staticmethod
    def _told(warnings: list[str], events: Generator[Event]) -> Generator[Event]:
        yield from map(Warned, dict.fromkeys(warnings))
        yield from events


def _without_effect(request: Request) -> list[str]:
    """What a request may say and nothing does yet."""
    asked = sorted(name for name in given(request) if name.startswith("hires_") or name == "denoising_strength")
    return [f"{', '.join(asked)}: there is no second pass yet, only the first is painted"] if asked else []


def _unread(resolved: Resolved) -> list[str]:
    """The options asked for that neither the sampler nor the schedule reads."""
    read = samplers()[resolved.sampler].uses | resolve_schedule(resolved.scheduler).uses
    asked = sorted(n for n in given(resolved.asked) & OPTIONS.keys() if OPTIONS[n] not in read)
    return [f"{', '.join(asked)}: {resolved.sampler} with {resolved.scheduler} has no such option"] if asked else []


def _steps(request: Request, resolved: Resolved, warn: Warn) -> int:
    """The steps of a run: those of a list of sigmas given by hand, else those asked for. Raises BadInput."""
    listed = resolve_schedule(resolved.scheduler).steps
    if listed is None:
        return resolved.steps
    if listed > STEPS.high:
        raise BadInput(f"the list of sigmas has {listed} steps: the limit is {STEPS.high:g}")
    if request.steps not in {None, listed}:
        warn(f"{request.steps} steps are not what is painted: the list of sigmas has {listed}")
    return listed


def _check_hash(request: Request, model: ModelRef, warn: Warn) -> None:
    """Tells where a model is not the one whose hash is wanted. Hashes of before 2023 (8 digits) cannot be compared."""
    wanted = (request.model_hash or "").lower()
    comparable = len(wanted) >= HASH_DIGITS or request.model is None
    if wanted and comparable and not model.sha256.startswith(wanted):
        warn(f"the model with the hash {wanted} is not what paints: {model.name!r} has {model.sha256[:HASH_DIGITS]}")


def _check_paints_from_text(model: Checkpoint) -> None:
    expected, given = model.unet_spec.in_channels, model.latent.channels
    if expected != given:
        raise BadInput(
            f"{model.path}: expects {expected} channels where a latent has {given} (it works on a given picture): "
            "choose a model that paints from text alone"
        )


def _method(sampler: str, scheduler: str | None) -> tuple[str, str]:
    spec, schedule = resolve_sampler(sampler, scheduler)
    return spec.name, schedule.name


def _defaults(model: Checkpoint) -> Defaults:
    own = model.defaults
    return Defaults(
        DEFAULT_SAMPLER, own.steps, own.cfg_scale, own.width, own.height, lcm(SIDE_STEP, model.latent.factor)
    )
