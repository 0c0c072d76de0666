"""What ControlNet units add to the images of an answer: A1111's detected maps, drawn anew by a job of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastapi import Request

from atelier.api.errors import Refused
from atelier.api.sdapi.answer import encoded
from atelier.api.sdapi.dialect import Dialect, Work
from atelier.api.sdapi.fields import Fields
from atelier.api.sdapi.translate import Asked
from atelier.api.sdapi.waiting import GONE, one, pictures, spoken
from atelier.api.uploads import decoded
from atelier.errors import AtelierError
from atelier.request.controls import control_text, parse_control
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, NewJob, Owner, State


async def drawn(
    dialect: Dialect,
    request: Request,
    owner: Owner,
    asked: Asked,
    named: Mapping[str, str],
    jobs: Sequence[Job],
    options: Mapping[str, object],
    warn: list[str],
) -> list[str]:
    """A map for each unit that wants one, in base64: the hint at the size of the request, or the image of a reference
    as it was sent. None where the images were not all made, or where no map can be drawn, of which is told."""
    if any(job.state is not State.DONE for job in jobs):
        return []
    texts = [_with_image(spoken(own.control, named), named) for own in asked.maps if own.control]
    try:
        hints = await _hints(dialect, request, owner, _fields(texts, asked, jobs), options) if texts else []
    except (AtelierError, Refused) as error:
        if isinstance(error, Refused) and error.problem.status == GONE:
            raise
        warn.append(f"no detected map is made: {error.problem.message if isinstance(error, Refused) else error}")
        return []
    left = iter(hints)
    return [
        next(left) if own.control else encoded(decoded(asked.images[own.image], own.image))
        for own in asked.maps[: None if len(hints) == len(texts) else 0]
    ]


async def _hints(
    dialect: Dialect, request: Request, owner: Owner, fields: Fields, options: Mapping[str, object]
) -> list[str]:
    job = await one(dialect, request, owner, NewJob("annotate", fields), Work(owner.key, "", 1))
    return [picture.data for picture in await pictures(dialect, owner, [job], options)]


def _fields(texts: Sequence[str], asked: Asked, jobs: Sequence[Job]) -> Fields:
    """Of the job that draws: at the size of the first request, beside its model, where that is said."""
    first = asked.runs.fields[0]
    size = {name: first[name] for name in ("width", "height") if name in first}
    model = ((jobs[0].resolved if jobs else None) or {}).get("model")
    name: Json = model.get("name") if isinstance(model, dict) else None
    return {"controls": [*texts], **(size if len(size) == 2 else {}), **({"model": name} if name else {})}


def _with_image(text: str, named: Mapping[str, str]) -> str:
    """A control that reads the image to start from with that image in it."""
    control = parse_control(text)
    return text if control.image else control_text(replace(control, image=named["image"]))
