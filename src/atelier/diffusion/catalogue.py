"""The samplers, schedules and guidances there are, and what the names that other programs write mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, partial
from types import MappingProxyType

import atelier.diffusion.guidance as guidance_modules
import atelier.diffusion.samplers as sampler_modules
import atelier.diffusion.schedules as schedule_modules
from atelier.diffusion.guidance.spec import GuidanceSpec
from atelier.diffusion.sampling import SamplerSpec
from atelier.diffusion.scheduling import ScheduleOptions, ScheduleSpec, by_hand
from atelier.diffusion.types import Schedule
from atelier.errors import BadInput, UnknownName
from atelier.registry import discover, folded, resolve

AUTOMATIC = "Automatic"
DEFAULT_SAMPLER = "DPM++ 2M"

_ENDINGS = {" exp ka": "Karras", " ka": "Karras", " k": "Karras", " exp": "Exponential"}


@cache
def samplers() -> Mapping[str, SamplerSpec]:
    """All samplers by name."""
    return discover(sampler_modules, SamplerSpec)


@cache
def schedules() -> Mapping[str, ScheduleSpec]:
    """All schedules by name."""
    return discover(schedule_modules, ScheduleSpec)


@cache
def guidances() -> Mapping[str, GuidanceSpec]:
    """All guidances beside the classifier-free one, by name."""
    return discover(guidance_modules, GuidanceSpec)


def resolve_sampler(name: str | None, schedule: str | None = None) -> tuple[SamplerSpec, ScheduleSpec]:
    """The sampler and the schedule that somebody means by these names, whatever their case.

    `name` may be a display name of A1111 (also an old one with the schedule in it, which then wins over `schedule`), an
    alias of A1111's, InvokeAI's or ComfyUI's, or the class of a diffusers scheduler; None is DPM++ 2M. `schedule` may
    be a name, a list of sigmas as text ("14.6, 7, 3, 0"), or None or "Automatic" for the sampler's own.

    What means something else in A1111 is meant as there; `request.infotext.sampler` reads names of other ages and
    programs.
    Raises UnknownName with the nearest names, BadInput for a list of sigmas that is none.
    """
    sampler, written = _split((name or DEFAULT_SAMPLER).strip())
    wanted = written or schedule
    if not wanted or wanted.strip().casefold() == AUTOMATIC.casefold():
        return sampler, schedules()[sampler.schedule]
    return sampler, resolve_schedule(wanted)


def resolve_schedule(name: str) -> ScheduleSpec:
    """A schedule by its name or alias, or a list of sigmas as text. Raises UnknownName, BadInput."""
    key = name.strip()
    if "," in key:
        return _listed(key)
    return resolve(schedules(), "schedule", key)


def _split(name: str) -> tuple[SamplerSpec, str | None]:
    """The sampler, and the schedule that its name ends with, if any."""
    spelled, known = folded(name), _by_name()
    if spelled in known:
        return known[spelled], None
    for ending, schedule in _endings().items():
        if spelled.endswith(ending) and spelled.removesuffix(ending) in known:
            return known[spelled.removesuffix(ending)], schedule
    ended = next((e for e in _endings() if spelled.endswith(e)), "")
    raise UnknownName("sampler", name[: len(name) - len(ended)], samplers())


@cache
def _by_name() -> Mapping[str, SamplerSpec]:
    return MappingProxyType({folded(n): s for s in samplers().values() for n in (s.name, *s.aliases)})


@cache
def _endings() -> Mapping[str, str]:
    """What a sampler's name may end with, the longest first, and the schedule it stands for."""
    spelled = {f" {folded(n)}": s.name for s in schedules().values() for n in (s.name, *s.aliases)}
    return MappingProxyType(
        dict(
            sorted(
                {**spelled, f" {AUTOMATIC.casefold()}": AUTOMATIC, **_ENDINGS}.items(), key=lambda item: -len(item[0])
            )
        )
    )


def _listed(text: str) -> ScheduleSpec:
    try:
        values = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise BadInput(f"schedule {text!r} is no list of sigmas: write numbers with commas between them") from None
    try:
        schedule = by_hand(values)
    except BadInput as error:
        raise BadInput(f"schedule {text!r}: {error}") from None
    exact = math.isclose(values[-1], 0)
    return ScheduleSpec(text, partial(_given, schedule), exact=False, to_zero=exact, steps=len(values) - 1)


def _given(schedule: Schedule, _options: ScheduleOptions) -> Schedule:
    return schedule
