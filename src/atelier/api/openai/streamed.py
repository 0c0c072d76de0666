"""Partial images and then the finished ones, as server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Literal

from starlette.exceptions import HTTPException

from atelier.api.background import spawn
from atelier.api.errors import problem_of
from atelier.api.openai.answers import Wanted, picture, render, size_text, usage
from atelier.api.openai.exchange import Exchange
from atelier.api.v1.events import ALIVE_SECONDS, paced, written
from atelier.api.waiting import done
from atelier.errors import AtelierError
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, JobEvent, JobImage

Call = Literal["image_generation", "image_edit"]


async def streamed(at: Exchange, job: Job, how: Wanted, call: Call, partial: int) -> AsyncIterator[str]:
    """`partial` previews, evenly over the steps, and then every image. A client that leaves cancels the job."""
    try:
        async for text in _partial(at.service.events(job.id, at.owner), how, call, partial):
            yield text
        ended = done(await at.service.job(job.id, at.owner))
        for image in ended.images:
            yield await _completed(at, ended, image, how, call)
    except (AtelierError, HTTPException) as error:
        body = render(problem_of(error)).body
        assert isinstance(body, dict)
        yield written("error", body)
    finally:
        spawn(at.request.app, _stop(at, job))


async def _stop(at: Exchange, job: Job) -> None:
    """Beside the stream, which may have been torn down; a job that has ended stays as it is."""
    with suppress(AtelierError):
        await at.service.cancel(job.id, at.owner)


async def _partial(found: AsyncIterator[JobEvent], how: Wanted, call: Call, partial: int) -> AsyncIterator[str]:
    share, sent = 0.0, 0
    async for event in paced(found, ALIVE_SECONDS):
        if event is None:
            yield ": alive\n\n"
        elif event.name == "progress":
            share = _number(event.data.get("share"))
        elif event.name == "preview" and sent < partial and share >= (sent + 1) / (partial + 1):
            data: dict[str, Json] = {"b64_json": event.data["image"], "partial_image_index": sent}
            yield _event(f"{call}.partial_image", {**data, "output_format": "jpeg"}, how, "auto")
            sent += 1


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


async def _completed(at: Exchange, job: Job, image: JobImage, how: Wanted, call: Call) -> str:
    made = await picture(at, image, how)
    told = usage(str(job.asked.get("prompt", "")), (image,), how).model_dump()
    data: dict[str, Json] = {name: value for name, value in made.model_dump().items() if value is not None}
    return _event(f"{call}.completed", {**data, "output_format": how.kind, "usage": told}, how, size_text((image,)))


def _event(name: str, data: dict[str, Json], how: Wanted, size: str) -> str:
    about: dict[str, Json] = {
        "type": name,
        "created_at": int(time.time()),
        "size": size,
        "quality": how.quality,
        "background": "opaque",
    }
    return written(name, {**about, **data})
