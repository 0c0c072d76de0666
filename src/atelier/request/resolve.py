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
    """The request made total. `draw` gives the seeds that were left open (fresh ones if None).

    With a variation all pictures share the seed and each has the next variation seed, as in A1111.

    Raises UnknownName for a sampler or schedule that is not there, BadInput for a size that the model cannot paint.
    """
    own = offer.defaults
    sampler, scheduler = offer.method(request.sampler or own.sampler, request.scheduler)
    width, height = request.width or own.width, request.height or own.height
    for name, side in (("width", width), ("height", height)):
        check_side(name, side, own.side_step)
    source = draw or random.SystemRandom()
    count, first = request.batch_size * request.batch_count, _seed(request.seed, source)
    varied = request.noise.variation_strength > 0
    return Resolved(
        asked=request,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        model=offer.model,
        steps=request.steps or own.steps,
        sampler=sampler,
        scheduler=scheduler,
        cfg_scale=own.cfg_scale if request.cfg_scale is None else request.cfg_scale,
        seeds=(first,) * count if varied else _following(first, count),
        variation_seeds=_following(_seed(request.noise.variation_seed, source), count) if varied else (0,) * count,
        width=width,
        height=height,
    )


def _seed(asked: int | None, draw: random.Random) -> int:
    return draw.randrange(DRAWN_SEEDS) if asked is None or asked == -1 else asked


def _following(first: int, count: int) -> tuple[int, ...]:
    return tuple((first + i) % ALL_SEEDS for i in range(count))
