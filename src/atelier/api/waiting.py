"""Dialects whose answer is the images themselves: a job, and a client that waits for its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import Request

from atelier.api.errors import Problem, Refused
from atelier.api.service import Service
from atelier.runtime.jobs.job import Job, JobError, Owner, State

GONE = 499
"""What logs say where the client left before there was an answer (nginx's number)."""


async def finished(request: Request, service: Service, job: Job, owner: Owner, *, alone: bool = True) -> Job:
    """Waits for the end of a job. A client that leaves cancels it, if it waits alone: nobody else would look.

    Raises Refused for a job that ended otherwise than done.
    """
    ending = asyncio.ensure_future(service.ended(job.id, owner))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((ending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            if alone:
                await service.cancel(job.id, owner)
            raise Refused(Problem(GONE, "ClientGone", "the client left before the job ended"))
        return done(ending.result())
    finally:
        for task in (ending, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await leaving


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def done(job: Job) -> Job:
    """The job, if it is done; raises Refused for every other end."""
    problem = failure(job)
    if problem is not None:
        raise Refused(problem)
    return job


def failure(job: Job) -> Problem | None:
    """Why a job ended without being done. What the caller can mend is 422; a job that was cancelled is no error of the
    server, and must not be sent again by a client that tries again by itself."""
    match job.state:
        case State.DONE:
            return None
        case State.CANCELLED:
            return Problem(400, "Cancelled", f"job {job.id} was cancelled")
        case State.TIMED_OUT:
            return Problem(504, "TimedOut", f"job {job.id} took longer than it may")
        case _:
            error = job.error or JobError("JobFailed", f"job {job.id} could not be done")
            return Problem(422 if error.exit_code == 2 else 500, error.kind, error.message)
