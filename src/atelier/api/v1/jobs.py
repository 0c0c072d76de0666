"""Jobs: asked for, looked at, cancelled, deleted."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from atelier.api.background import spawn
from atelier.api.caller import Behind, Caller, Setup
from atelier.api.errors import refuse
from atelier.api.service import Service
from atelier.api.uploads import image_fields, submitted
from atelier.api.v1.generate import GenerateFields, given
from atelier.api.v1.ids import JobId
from atelier.api.v1.shapes import JobShape, Page, job_shape
from atelier.api.v1.webhooks import allowed, report
from atelier.request.table import request_of
from atelier.runtime.jobs.job import Job, NewJob, Owner, State

routes = APIRouter(tags=["jobs"])
IdempotencyKey = Annotated[
    str | None,
    Header(
        max_length=255,
        min_length=1,
        description="For 24 hours it gives the same job; other fields are refused.",
    ),
]
Before = Annotated[
    str | None, Query(max_length=64, pattern="^[A-Za-z0-9_-]+$", description="The id of a job to go on from.")
]
PARAMETERS = frozenset({"priority", "timeout", "webhook"})
"""What POST /v1/jobs is told beside the fields."""
PRIORITY = 10
"""The highest; it is for admins, as is everything above 0."""


@routes.post("/v1/jobs", status_code=202)
async def submit(
    body: GenerateFields,
    service: Behind,
    owner: Caller,
    settings: Setup,
    request: Request,
    response: Response,
    priority: Annotated[int, Query(ge=-PRIORITY, le=PRIORITY, description="Higher is sooner; above 0 for admins.")] = 0,
    timeout: Annotated[float | None, Query(gt=0, le=86_400, description="Seconds that it may run.")] = None,
    webhook: Annotated[str | None, Query(max_length=2000, description="Where the ended job is reported to.")] = None,
    idempotency_key: IdempotencyKey = None,
) -> JobShape:
    """Asks for images. The answer comes when the job is committed: from then on it is done, whatever happens."""
    _check_parameters(request, priority, owner)
    if webhook is not None:
        allowed(webhook, settings.webhooks)
    fields = await image_fields(service, owner, given(body))
    request_of(fields)
    job = await submitted(service, NewJob("generate", fields, priority, idempotency_key, timeout), owner)
    if webhook is not None:
        spawn(request.app, report(service, job.id, owner, webhook))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job_shape(job)


def _check_parameters(request: Request, priority: int, owner: Owner) -> None:
    """Raises Refused for parameters that mean nothing here, and for a priority that the key may not give."""
    unknown = sorted(request.query_params.keys() - PARAMETERS)
    if unknown:
        named, known = ", ".join(repr(name[:60]) for name in unknown[:5]), ", ".join(sorted(PARAMETERS))
        raise refuse(
            422, f"unknown query parameter {named}: they are {known}; fields go into the body", field=unknown[0][:60]
        )
    if priority > 0 and not owner.admin:
        message = "priority: above 0 is for keys of admins: leave it out, or use 0 or less"
        raise refuse(403, message, field="priority", kind="Forbidden")


@routes.get("/v1/jobs")
async def listed(
    service: Behind,
    owner: Caller,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs on a page.")] = 20,
    before: Before = None,
    state: Annotated[Literal["alive", "ended", "failed"] | None, Query(description="Only these.")] = None,
    kind: Annotated[str | None, Query(max_length=64, description="Only those of a kind, such as generate.")] = None,
) -> Page[JobShape]:
    """One's jobs, newest first; failed are those that ended without being done or cancelled."""
    states = [one for one in State if state is None or _is(one, state)]
    found = await service.jobs(owner, limit=limit + 1, before=before, states=states, kind=kind)
    return Page[JobShape](data=[job_shape(job) for job in found[:limit]], has_more=len(found) > limit)


def _is(one: State, asked: str) -> bool:
    if asked == "failed":
        return one in {State.FAILED, State.TIMED_OUT, State.QUARANTINED}
    return one.ended == (asked == "ended")


@routes.get("/v1/jobs/{job_id}")
async def one(job_id: JobId, service: Behind, owner: Caller) -> JobShape:
    """A job as it stands."""
    return job_shape(await service.job(job_id, owner))


@routes.post("/v1/jobs/{job_id}/cancel")
async def cancel(job_id: JobId, service: Behind, owner: Caller) -> JobShape:
    """Asks a job to stop: it does within one step. One that ended stays as it is."""
    return job_shape(await service.cancel(job_id, owner))


@routes.delete("/v1/jobs/{job_id}", status_code=204)
async def delete(job_id: JobId, service: Behind, owner: Caller) -> None:
    """Removes a job and its images; one that has not ended is cancelled first."""
    job = await service.job(job_id, owner)
    if not job.state.ended:
        await _stopped(job, service, owner)
    await service.delete(job_id, owner)


async def _stopped(job: Job, service: Service, owner: Owner) -> None:
    await service.cancel(job.id, owner)
    await service.ended(job.id, owner)
