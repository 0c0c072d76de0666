"""Painting requests on this machine."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.diffusion.catalogue import DEFAULT_SAMPLER, resolve_sampler, samplers
from atelier.errors import BadInput
from atelier.families.checkpoint import Checkpoint
from atelier.pipeline.plan import plan
from atelier.pipeline.run import run
from atelier.request.events import Event, Failed, PictureReady
from atelier.request.model import SIDE_STEP, ModelRef, Request, Resolved
from atelier.request.resolve import Defaults, Offer, resolve
from atelier.runtime.device import Device
from atelier.runtime.library import Library
from atelier.runtime.resources import Machine
from atelier.runtime.store import Destination
from atelier.weights.hashes import HashCache

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Picture:
    """A painted picture: a PIL image, the seed that makes it again, and A1111's text of parameters."""

    image: Image
    seed: int
    infotext: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a PNG that carries the infotext: to a file, or under a numbered name into a folder.

        Returns where it lies. Raises BadFile or StorageFull, leaving nothing half-written.
        """
        destination = Destination.of(os.fspath(path))
        destination.prepare()
        return destination.save(self.image, self.infotext, picture=0, pictures=1, seed=self.seed)


class Studio:
    """Paints with the models of one library on one device.

    keep: the model that was used last stays in memory for the next request. hashes: remembers what files hash to.
    version: of Atelier, for the infotexts.
    """

    def __init__(self, device: Device, library: Library, hashes: HashCache, *, version: str, keep: bool = True) -> None:
        self.device, self.library = device, library
        self._hashes, self._version = hashes, version
        self._machine = Machine(device, keep=keep)

    def resolve(self, request: Request) -> Resolved:
        """Leaves nothing of a request open. Raises BadInput for what cannot be painted, before any work is done."""
        found = self.library.find(request.model)
        model = self._machine.open(found.path)
        _check_paints_from_text(model)
        reference = ModelRef(found.name, str(found.path), model.sha256(self._hashes))
        resolved = resolve(request, Offer(_method, reference, _defaults(model)))
        if resolved.output is not None:
            Destination.of(resolved.output).prepare()
        return resolved

    def events(self, request: Request, *, previews: float | None = None) -> Generator[Event]:
        """Paints a request as a stream of events; closing it stops between two steps.

        previews: seconds between previews, None for none. Raises BadInput, at the call, for a request that cannot be
        painted; what fails later is the event Failed.
        """
        resolved = self.resolve(request)
        together = 1 if samplers()[resolved.sampler].alone else self.device.together
        stages = plan(resolved, version=self._version, together=together)
        return run(stages, self._machine, previews=previews)

    def paint(self, request: Request) -> list[Picture]:
        """Paints a request. Raises AtelierError."""
        pictures: list[Picture] = []
        with closing(self.events(request)) as events:
            for event in events:
                match event:
                    case PictureReady(_, seed, image, infotext):
                        pictures.append(Picture(image, seed, infotext))
                    case Failed(error):
                        raise error
                    case _:
                        pass
        return pictures


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
