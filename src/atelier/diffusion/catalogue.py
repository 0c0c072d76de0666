"""The samplers and schedules there are, and what the names of other programs mean."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import atelier.diffusion.samplers as sampler_modules
import atelier.diffusion.schedules as schedule_modules
from atelier.diffusion.sampling import SamplerSpec
from atelier.diffusion.scheduling import ScheduleSpec
from atelier.registry import discover, resolve

AUTOMATIC = "Automatic"


@cache
def samplers() -> Mapping[str, SamplerSpec]:
    """All samplers by name."""
    return discover(sampler_modules, SamplerSpec)


@cache
def schedules() -> Mapping[str, ScheduleSpec]:
    """All schedules by name."""
    return discover(schedule_modules, ScheduleSpec)


def resolve_sampler(name: str, schedule: str | None = None) -> tuple[SamplerSpec, ScheduleSpec]:
    """Placeholder of what follows."""
    spec = resolve(samplers(), "sampler", name)
    chosen = schedule if schedule and schedule.casefold() != AUTOMATIC.casefold() else spec.schedule
    return spec, resolve(schedules(), "schedule", chosen)
