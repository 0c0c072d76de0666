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


class Feed:
    """The lines of all jobs of which something is known."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self.is_closed = False

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
        if line is None or line.is_ended:
            self.line(job)
            return
        if job.state.ended:
            line.preview = None
        line.state(job)
        self._trim()

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
        for line in self._lines.values():
            line.wake()

    def _tell(self, job_id: str, name: str, data: Mapping[str, Json]) -> None:
        line = self._lines.get(job_id)
        if line is not None:
            line.tell(name, data)

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
