"""From a request to one with nothing left open: names looked up, defaults filled in, the seed drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from atelier.errors import UnknownName
from atelier.registry import Named, resolve as look_up
from atelier.request.model import ModelRef, Request, Resolved, check_side

AUTOMATIC = "automatic"
DRAWN_SEEDS = 2**32
ALL_SEEDS = 2**64


class SamplerName(Named, Protocol):
    """A sampler as a request sees it: its names, and the schedule that it goes with if none is asked for."""

    @property
    def scheduler(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a model paints with where a request leaves it open.

    side_step: pixels that each side must be a multiple of.
    """

    sampler: str
    steps: int
    cfg_scale: float
    width: int
    height: int
    side_step: int
    scheduler: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to choose from: the registries, and the model that the request named."""

    samplers: Mapping[str, SamplerName]
    schedulers: Mapping[str, Named]
    model: ModelRef
    defaults: Defaults


def resolve(request: Request, offer: Offer, draw: random.Random | None = None) -> Resolved:
    """The request made total. `draw` gives the seed that was left open (a fresh one if None).

    Raises UnknownName for a sampler or scheduler that is not there, BadInput for a size that the model cannot paint.
    """
    own = offer.defaults
    sampler, scheduler = _method(request, offer)
    width, height = request.width or own.width, request.height or own.height
    for name, side in (("width", width), ("height", height)):
        check_side(name, side, own.side_step)
    return Resolved(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        model=offer.model,
        steps=request.steps or own.steps,
        sampler=sampler,
        scheduler=scheduler,
        cfg_scale=own.cfg_scale if request.cfg_scale is None else request.cfg_scale,
        seeds=_seeds(request, draw or random.SystemRandom()),
        rng=request.rng,
        width=width,
        height=height,
        batch_size=request.batch_size,
        output=request.output,
    )


def _method(request: Request, offer: Offer) -> tuple[str, str]:
    """Registry names of sampler and schedule. "DPM++ 2M Karras" names both, as in A1111 before 1.9."""
    asked = request.sampler or offer.defaults.sampler
    scheduler = request.scheduler or (None if request.sampler else offer.defaults.scheduler)
    try:
        sampler = look_up(offer.samplers, "sampler", asked)
    except UnknownName:
        named = _ending(asked, offer.schedulers)
        if named is None:
            raise
        sampler, scheduler = look_up(offer.samplers, "sampler", asked[: -len(named)]), named
    if scheduler is None or scheduler.strip().casefold() == AUTOMATIC:
        scheduler = sampler.scheduler
    return sampler.name, look_up(offer.schedulers, "scheduler", scheduler).name


def _ending(asked: str, schedulers: Mapping[str, Named]) -> str | None:
    """The longest name of a schedule that `asked` ends with, after a space."""
    names = {name for spec in schedulers.values() for name in (spec.name, *spec.aliases)}
    fitting = [name for name in names if asked.casefold().endswith(f" {name.casefold()}")]
    return max(fitting, key=len, default=None)


def _seeds(request: Request, draw: random.Random) -> tuple[int, ...]:
    first = draw.randrange(DRAWN_SEEDS) if request.seed in {None, -1} else request.seed
    assert first is not None
    return tuple((first + i) % ALL_SEEDS for i in range(request.batch_size * request.batch_count))
