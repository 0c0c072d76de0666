"""All that runs and waits, at a glance and as it changes; moved to the front, and done again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from atelier.api.caller import Behind, Caller
from atelier.api.errors import refuse
from atelier.api.uploads import submitted
from atelier.api.v1.events import STREAM, EventStream, written_stream
from atelier.api.v1.ids import JobId
from atelier.api.v1.images import BINARY, ImageFile
from atelier.api.v1.jobs import IdempotencyKey
from atelier.api.v1.shapes import JobShape, QueueShape, job_shape
from atelier.runtime.jobs.job import NewJob, State, UnknownJob

routes = APIRouter(tags=["jobs"])
FOR_ADMINS = frozenset({"teach", "inspect", "convert", "merge"})
"""Kinds of jobs that only admins ask for."""
_DESCRIPTION = (
    "Server-sent events of all one's jobs and images, for ever: those of a job with its id as `job`, `queue` (another "
    "order), `gallery` (images or boards did), and `reset` (something may have been missed: ask for /v1/queue anew). "
    "Last-Event-ID goes on behind it."
)


@routes.get("/v1/queue")
async def queue(service: Behind, owner: Caller) -> QueueShape:
    """One's jobs that run, and those that wait in the order in which they will start."""
    found = await service.alive(owner)
    return QueueShape(
        running=[job_shape(job) for job in found if job.state is State.RUNNING],
        waiting=[job_shape(job) for job in found if job.state is State.QUEUED],
    )


@routes.get("/v1/events", response_class=EventStream, description=_DESCRIPTION)
async def stream(
    service: Behind,
    owner: Caller,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,15}$", description="Goes on behind it.")] = None,
    after: Annotated[
        int | None, Query(ge=0, le=2**53, description="The same, for those who cannot send headers.")
    ] = None,
) -> EventStream:
    found = service.stream(owner, after if last_event_id is None else int(last_event_id))
    return EventStream(written_stream(found), headers=dict(STREAM))


@routes.get(
    "/v1/jobs/{job_id}/preview",
    response_class=ImageFile,
    responses={200: {"content": {"image/jpeg": BINARY["image/jpeg"]}, "description": "The file."}},
)
async def preview(job_id: JobId, service: Behind, owner: Caller) -> Response:
    """What a running job has made of its image so far, small, as JPEG."""
    data = await service.preview(job_id, owner)
    if data is None:
        raise UnknownJob("no preview")
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@routes.post("/v1/jobs/{job_id}/front")
async def front(job_id: JobId, service: Behind, owner: Caller) -> JobShape:
    """Lets a job that waits start before one's others; before those of others it takes nothing."""
    return job_shape(await service.to_front(job_id, owner))


@routes.post("/v1/jobs/{job_id}/retry", status_code=202)
async def retry(
    job_id: JobId, service: Behind, owner: Caller, response: Response, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks for the same again, as a new job: what was left open, such as the seed, is chosen anew."""
    job = await service.job(job_id, owner)
    if job.kind in FOR_ADMINS and not owner.admin:
        raise refuse(403, "this API key may not do that: it needs a key of an admin", kind="Forbidden")
    priority = job.priority if owner.admin else min(job.priority, 0)
    again = await submitted(service, NewJob(job.kind, job.asked, priority, idempotency_key), owner)
    response.headers["Location"] = f"/v1/jobs/{again.id}"
    return job_shape(again)
