"""From a request to one with nothing left open: names looked up, defaults filled in, the seed drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from atelier.request.model import ModelRef, Request, Resolved, check_side

DRAWN_SEEDS = 2**32
ALL_SEEDS = 2**64

Method = Callable[[str, str | None], tuple[str, str]]
"""(sampler, schedule) as somebody calls them -> their names in the registries; without a schedule, the sampler's own.
Raises UnknownName."""


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


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to choose from: samplers and schedules, and the model that the request named."""

    method: Method
    model: ModelRef
    defaults: Defaults


def resolve(request: Request, offer: Offer, draw: random.Random | None = None) -> Resolved:
    """The request made total. `draw` gives the seed that was left open (a fresh one if None).

    Raises UnknownName for a sampler or schedule that is not there, BadInput for a size that the model cannot paint.
    """
    own = offer.defaults
    sampler, scheduler = offer.method(request.sampler or own.sampler, request.scheduler)
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


def _seeds(request: Request, draw: random.Random) -> tuple[int, ...]:
    first = draw.randrange(DRAWN_SEEDS) if request.seed in {None, -1} else request.seed
    assert first is not None
    return tuple((first + i) % ALL_SEEDS for i in range(request.batch_size * request.batch_count))
