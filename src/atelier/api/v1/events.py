"""What happens to a job, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from atelier.api.caller import Behind, Caller
from atelier.api.errors import problem_of
from atelier.api.v1.errors import render
from atelier.api.v1.ids import JobId
from atelier.errors import AtelierError
from atelier.request.events import Json
from atelier.runtime.jobs.job import JobEvent

T = TypeVar("T")
routes = APIRouter(tags=["jobs"])
ALIVE_SECONDS = 15.0
"""Between two signs of life, so that nothing on the way closes a quiet connection."""
STREAM: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_DESCRIPTION = (
    "Server-sent events: `state` (the job), `progress`, `preview` ({index, image: base64 of a JPEG}), `image`, "
    "`warning`, of a job that teaches `learned` ({points, checks, left}: what GET .../course has, and seconds). Each "
    "has an id; Last-Event-ID goes on behind it. The stream ends with the job."
)


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


@routes.get("/v1/jobs/{job_id}/events", response_class=EventStream, description=_DESCRIPTION)
async def events(
    job_id: JobId,
    service: Behind,
    owner: Caller,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,15}$", description="Goes on behind it.")] = None,
    after: Annotated[int, Query(ge=0, le=2**53, description="The same, for those who cannot send headers.")] = 0,
) -> EventStream:
    await service.job(job_id, owner)
    found = service.events(job_id, owner, after if last_event_id is None else int(last_event_id))
    return EventStream(written_stream(found), headers=dict(STREAM))


async def written_stream(found: AsyncIterator[JobEvent]) -> AsyncIterator[str]:
    """The events as they travel, with a sign of life in between."""
    try:
        async for event in paced(found, ALIVE_SECONDS):
            yield ": alive\n\n" if event is None else written(event.name, event.data, event.number)
    except AtelierError as error:
        body = render(problem_of(error)).body
        assert isinstance(body, dict)
        yield written("error", body)


def written(name: str, data: Mapping[str, Json], number: int | None = None) -> str:
    """One event as it travels; its data is one line of JSON."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"


async def paced(found: AsyncIterator[T], seconds: float) -> AsyncIterator[T | None]:
    """What comes, and None whenever nothing came for so long."""
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(found))
            done, _ = await asyncio.wait((coming,), timeout=seconds)
            if not done:
                yield None
                continue
            ready, coming = coming, None
            try:
                yield ready.result()
            except StopAsyncIteration:
                return
    finally:
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, AtelierError):
                await coming
