"""How far a call is, and stopping it: /sdapi/v1/progress, interrupt and skip, /internal/progress and pending-tasks.

Everybody sees and stops what is their own alone.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping

from fastapi import APIRouter

from atelier.api.caller import Caller
from atelier.api.sdapi.answer import encoded, stamp
from atelier.api.sdapi.bodies import TaskProgress
from atelier.api.sdapi.dialect import Dialect, Work
from atelier.api.sdapi.fields import refused
from atelier.api.sdapi.routing import Answer, routes
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, Owner, State

BEGUN = 0.01
"""A1111's share of a job that has not made a step."""


def router(dialect: Dialect) -> APIRouter:
    """The routes below /sdapi/v1."""
    made = routes()

    @made.get("/progress")
    async def progress(owner: Caller, *, skip_current_image: bool = False) -> Answer:
        """How far the caller's job is."""
        job = await dialect.service.running(owner)
        image = None if job is None or skip_current_image else await dialect.service.preview(job.id, owner)
        work = None if job is None else dialect.by_job(owner, job.id)
        return shown(job, work, image)

    @made.post("/interrupt")
    async def interrupt(owner: Caller) -> Answer:
        """Stops the caller's job; its images so far are answered to whoever waits for it."""
        await _stop(dialect, owner)
        return {}

    @made.post("/skip")
    async def skip(owner: Caller) -> None:
        """Stops the caller's job where it has one image left. Raises Refused where others would follow."""
        job = await dialect.service.running(owner)
        if job is not None and job.progress.images - job.progress.image > 1:
            raise refused("skip: a job of several images stops as a whole here; use interrupt", "skip")
        await _stop(dialect, owner)

    return made


def internal(dialect: Dialect) -> APIRouter:
    """The routes below /internal, which pages of A1111 ask for."""
    made = routes("/internal")

    @made.post("/progress")
    async def progress(body: TaskProgress, owner: Caller) -> Answer:
        """How far the call is that was sent with force_task_id."""
        work = dialect.by_task(owner, body.id_task) if body.id_task else None
        if work is None or work.ended or not work.job:
            return _task(work, None, None)
        job = await dialect.service.job(work.job, owner)
        preview = await dialect.service.preview(job.id, owner) if body.live_preview and not job.state.ended else None
        return _task(work, job, preview)

    @made.get("/pending-tasks")
    async def pending(owner: Caller) -> Answer:
        """Ids of the caller's calls that wait."""
        tasks = dialect.tasks(owner)
        return {"size": len(tasks), "tasks": list[Json](tasks)}

    return made


async def _stop(dialect: Dialect, owner: Owner) -> None:
    job = await dialect.service.running(owner)
    if job is not None:
        await dialect.service.cancel(job.id, owner)


def shown(job: Job | None, work: Work | None, image: bytes | None) -> dict[str, Json]:
    """What GET progress answers. Without a job all is 0: clients wait for that."""
    share = 0.0 if job is None else of_all(job, work)
    return {
        "progress": share,
        "eta_relative": 0.0 if job is None else left(job, share),
        "state": state(job),
        "current_image": None if image is None else encoded(image),
        "textinfo": "Waiting..." if job is not None and job.state is State.QUEUED else None,
    }


def of_all(job: Job, work: Work | None) -> float:
    """The share of all that a call asks for, 0 to 1."""
    if job.state is State.QUEUED and (work is None or not work.done):
        return 0.0
    own = min(1.0, max(BEGUN, job.progress.share))
    return own if work is None else min(1.0, (work.done + own) / max(1, work.runs))


def left(job: Job, share: float) -> float:
    """Seconds until the job ends."""
    if job.expected is not None:
        return max(0.0, job.expected)
    elapsed = 0.0 if job.started is None else time.time() - job.started
    return max(0.0, elapsed / share - elapsed) if share else 0.0


def state(job: Job | None) -> dict[str, Json]:
    """A1111's counters. A job there is a batch; steps are those of a batch."""
    count, number, step, steps = (0, 0, 0, 0) if job is None else counted(job)
    return {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "" if job is None else job.id,
        "job_count": count,
        "job_timestamp": "0" if job is None else stamp(job.started or job.created),
        "job_no": number,
        "sampling_step": step,
        "sampling_steps": steps,
    }


def counted(job: Job) -> tuple[int, int, int, int]:
    """(batches, the number of the one that is made, its step, its steps)."""
    batches = _whole(job.asked, "batch_count") * (2 if _is_hires(job.asked) else 1)
    steps = max(1, job.progress.total // batches)
    number = min(batches - 1, job.progress.done // steps)
    return batches, number, min(steps, job.progress.done - number * steps), steps


def _is_hires(asked: Mapping[str, Json]) -> bool:
    return any(name in asked for name in ("hires_upscale", "hires_resize", "hires_upscaler"))


def _whole(asked: Mapping[str, Json], name: str) -> int:
    value = asked.get(name, 1)
    return max(1, value) if isinstance(value, int) else 1


def _task(work: Work | None, job: Job | None, preview: bytes | None) -> dict[str, Json]:
    waiting = work is not None and not work.ended
    queued = waiting and (job is None or job.state is State.QUEUED)
    share = of_all(job, work) if job is not None else None
    text = f"In queue: {job.position + 1}" if job is not None and job.position is not None else None
    image = None if preview is None else f"data:image/jpeg;base64,{base64.b64encode(preview).decode('ascii')}"
    return {
        "active": waiting and not queued,
        "queued": queued,
        "completed": work is not None and work.ended,
        "progress": share,
        "eta": None if job is None or share is None else left(job, share),
        "live_preview": image,
        "id_live_preview": -1 if job is None else job.progress.done,
        "textinfo": text or ("Waiting..." if queued else None),
    }
