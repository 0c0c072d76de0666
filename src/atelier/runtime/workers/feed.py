"""What happens to jobs, told to whoever listens: in order, with numbers, and in bounded memory."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import OrderedDict
from collections.abc import Mapping

from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, JobEvent, JobImage, JobProgress

KEPT_PROGRESS = 256
"""Events of progress that a slow listener can be behind."""
KEPT_AT_END = 16
"""The same once the job has ended: hundreds of such jobs are remembered."""
KEPT_PREVIEWS = 2
KEPT_LINES = 256
"""Jobs that ended whose events are still there."""
KEPT_STREAM = 512
"""Events of an owner that a listener may have missed."""
REPLACED = frozenset({"progress", "preview"})
"""Events of which only the newest of each job means anything to somebody who looks at all jobs."""


class Line:
    """The events of one job, from the newest state, image or warning back to the first, and the last ones of progress.

    owner: the key whose job it is; first: what the numbers count on from; ended: the job as it ended, None before.
    """

    def __init__(self, owner: str, first: int = 0) -> None:
        self.owner = owner
        self.ended: Job | None = None
        self.preview: bytes | None = None
        self._events: list[JobEvent] = []
        self._number = first
        self._changed = asyncio.Event()

    @property
    def is_ended(self) -> bool:
        return self.ended is not None

    def state(self, job: Job) -> None:
        """Tells the state of the job, for the last time if that is its end."""
        self.ended = job if job.state.ended else None
        self.tell("state", state_data(job))

    def tell(self, name: str, data: Mapping[str, Json]) -> None:
        """Adds an event; of progress and previews the oldest ones are forgotten."""
        self._number += 1
        self._events.append(JobEvent(self._number, name, data))
        self._forget("preview", 0 if self.is_ended else KEPT_PREVIEWS)
        for often in ("progress", "learned"):
            self._forget(often, KEPT_AT_END if self.is_ended else KEPT_PROGRESS)
        self.wake()

    def wake(self) -> None:
        """Lets everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def after(self, number: int) -> list[JobEvent]:
        """The events behind that number, as far as they are kept."""
        return [event for event in self._events if event.number > number]

    async def change(self) -> None:
        """Waits for the next event."""
        await self._changed.wait()

    def _forget(self, name: str, most: int) -> None:
        found = [index for index, event in enumerate(self._events) if event.name == name]
        for index in found[: max(0, len(found) - most)][::-1]:
            del self._events[index]


class Stream:
    """What happens to all that is an owner's, in one order; newest, oldest: the numbers of the last event, and of the
    last one that was forgotten. Of what replaces what was told before, as progress does, the newest alone is kept; the
    oldest of the rest is forgotten at `KEPT_STREAM`. Numbers count on from the milliseconds of the time of day, so that
    no earlier server has given them."""

    def __init__(self) -> None:
        self.newest = self.oldest = int(time.time() * 1000)
        self._events: OrderedDict[tuple[str, str] | int, JobEvent] = OrderedDict()
        self._changed = asyncio.Event()

    def tell(self, name: str, job_id: str, data: Mapping[str, Json]) -> None:
        self.newest += 1
        key = (name, job_id) if name in REPLACED else self.newest
        self._events.pop(key, None)
        self._events[key] = JobEvent(self.newest, name, {**data, "job": job_id} if job_id else data)
        if len(self._events) > KEPT_STREAM:
            self.oldest = self._events.popitem(last=False)[1].number
        self.wake()

    def done(self, job_id: str) -> None:
        """The job has ended: nobody wants to see how far it had come."""
        for name in REPLACED:
            self._events.pop((name, job_id), None)

    def standing(self) -> list[JobEvent]:
        """The newest progress and preview of each job that runs."""
        return [event for event in self._events.values() if event.name in REPLACED]

    def has_gap(self, after: int | None) -> bool:
        """Whether something was forgotten that happened behind that number, or the number is none of this server's."""
        return after is None or not self.oldest <= after <= self.newest

    def after(self, number: int) -> list[JobEvent]:
        return [event for event in self._events.values() if event.number > number]

    def wake(self) -> None:
        """Lets everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        """Waits for the next event."""
        await self._changed.wait()


class Feed:
    """The lines of all jobs of which something is known, and the stream of each owner."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self._streams: dict[str, Stream] = {}
        self.is_closed = False

    def stream(self, owner: str) -> Stream:
        """What happens to all that is an owner's."""
        return self._streams.setdefault(owner, Stream())

    def accepted(self, job: Job) -> None:
        """A new job: its numbers begin at 1."""
        self._lines[job.id] = Line(job.owner)
        self.state(job)

    def line(self, job: Job) -> Line:
        """The events of a job. One that is older than this server begins with what is known of it, under numbers that
        no earlier server gave: they count milliseconds."""
        line = self._lines.get(job.id)
        if line is None:
            line = Line(job.owner, max(0, int((time.time() - job.created) * 1000)))
            self._lines[job.id] = line
            for image in job.images:
                line.tell("image", image_data(image))
            line.state(job)
            self._trim()
        return line

    def of(self, job_id: str, owner: str) -> Line | None:
        """The events of an owner's job, None where nothing is known of it here."""
        line = self._lines.get(job_id)
        return line if line is not None and line.owner == owner else None

    def state(self, job: Job) -> None:
        """Tells in which state a job is now."""
        line = self._lines.get(job.id)
        known = line is not None and line.is_ended
        if line is None or line.is_ended:
            self.line(job)
        else:
            if job.state.ended:
                line.preview = None
            line.state(job)
            self._trim()
        if not known:
            self._told(job)

    def _told(self, job: Job) -> None:
        """Tells the owner's stream of a new state."""
        stream = self.stream(job.owner)
        if job.state.ended:
            stream.done(job.id)
        stream.tell("state", job.id, {**state_data(job), "kind": job.kind})

    def progress(self, job_id: str, progress: JobProgress) -> None:
        self._tell(job_id, "progress", progress_data(progress))

    def image(self, job_id: str, image: JobImage) -> None:
        self._tell(job_id, "image", image_data(image))

    def warning(self, job_id: str, message: str) -> None:
        self._tell(job_id, "warning", {"message": message})

    def learned(self, job_id: str, data: Mapping[str, Json]) -> None:
        """How a training goes: what is forgotten of it here, its run remembers."""
        self._tell(job_id, "learned", data)

    def preview(self, job_id: str, index: int, data: bytes) -> None:
        """data: a JPEG."""
        line = self._lines.get(job_id)
        if line is not None:
            line.preview = data
            self._tell(job_id, "preview", {"index": index, "image": base64.b64encode(data).decode()})

    def newest_preview(self, job_id: str) -> bytes | None:
        line = self._lines.get(job_id)
        return None if line is None else line.preview

    def owner(self, job_id: str) -> str | None:
        """The key whose job it is, where something is told of it."""
        line = self._lines.get(job_id)
        return None if line is None else line.owner

    def forget(self, job_id: str) -> None:
        self._lines.pop(job_id, None)

    def close(self) -> None:
        """Nothing more is told; who waits is told so."""
        self.is_closed = True
        for told in (*self._lines.values(), *self._streams.values()):
            told.wake()

    def _tell(self, job_id: str, name: str, data: Mapping[str, Json]) -> None:
        line = self._lines.get(job_id)
        if line is not None:
            line.tell(name, data)
            self.stream(line.owner).tell(name, job_id, data)

    def _trim(self) -> None:
        """Forgets the jobs that ended, the oldest first."""
        ended = [job_id for job_id, line in self._lines.items() if line.is_ended]
        for job_id in ended[: max(0, len(ended) - KEPT_LINES)]:
            del self._lines[job_id]


def state_data(job: Job) -> dict[str, Json]:
    error = job.error
    said: dict[str, Json] = {"id": job.id, "state": str(job.state), "attempt": job.attempt}
    if error is not None:
        said["error"] = {"kind": error.kind, "message": error.message, "exit_code": error.exit_code}
    return said


def progress_data(progress: JobProgress) -> dict[str, Json]:
    return {
        "done": progress.done,
        "total": progress.total,
        "image": progress.image,
        "images": progress.images,
        "share": progress.share,
    }


def image_data(image: JobImage) -> dict[str, Json]:
    return {
        "id": image.id,
        "index": image.index,
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "sha256": image.sha256,
        "infotext": image.infotext,
    }
