"""The store of jobs: what was accepted survives every process, and ends exactly once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from atelier.request.events import Json
from atelier.runtime.jobs.clock import SYSTEM, Clock
from atelier.runtime.jobs.job import Job, JobError, JobImage, JobProgress, NewJob, Owner
from atelier.runtime.jobs.lease import (
    UNSETTLED,
    Accepted,
    Claimed,
    Counts,
    Lease,
    MadeImage,
    Overdue,
    SavedState,
    Settled,
)
from atelier.runtime.jobs.limits import USUAL, Limits


class JobStore:
    """All methods are synchronous and may be called from any thread; one process has a store open at a time.

    Every method may raise StoreFailed (the disk or the database refuses); nothing is then half done. Methods that take
    an owner raise UnknownJob for what belongs to another. Methods that take a lease raise LeaseLost once it is void;
    each of them counts as a heartbeat.
    """

    notices: tuple[str, ...]
    """What the operator must read about the opening: a damaged database, jobs that were running when the last server
    died. One line each."""

    @classmethod
    def open(
        cls,
        folder: Path,
        url: str | None = None,
        *,
        limits: Limits = USUAL,
        clock: Clock = SYSTEM,
        changed: Callable[[str], None] = lambda _: None,
    ) -> JobStore:
        """Opens the store in a folder, making it or bringing it to the newest schema.

        url: None or "sqlite:///FILE" for SQLite (in the folder unless said), "postgresql://..." for PostgreSQL; images
        always lie in the folder. changed: called with the id of a job after each commit that changed it, in the thread
        that did. Jobs that were running when the last server died wait again, as the next attempt. Raises FolderInUse
        where another process has the folder or database open.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Gives the folder free. Running jobs should have been given back before."""
        raise NotImplementedError

    # What owners ask.

    def accept(self, job: NewJob, owner: Owner, settled: Settled = UNSETTLED) -> Accepted:
        """Commits a job; once this returns, it survives the death of every process.

        Raises QueueFull, TooLarge for a cost over the limit, UnknownJob for an upload that is not the owner's.
        """
        raise NotImplementedError

    def repeated(self, job: NewJob, owner: Owner) -> Job | None:
        """The job that the idempotency key was given for in the last 24 hours: asked before anything is settled."""
        raise NotImplementedError

    def job(self, job_id: str, owner: Owner) -> Job:
        raise NotImplementedError

    def jobs(self, owner: Owner, *, limit: int = 100, before: str | None = None) -> tuple[Job, ...]:
        """The owner's, newest first, from behind the job `before`."""
        raise NotImplementedError

    def running(self, owner: Owner) -> Job | None:
        """The owner's job that runs (the one that started first), or else the one that starts next."""
        raise NotImplementedError

    def cancel(self, job_id: str, owner: Owner) -> Job:
        """Ends a job that waits. A running one is marked (`cancelling` tells), and never starts again: its worker must
        be told to stop, and answers with `stopped`. One that ended stays as it is."""
        raise NotImplementedError

    def delete(self, job_id: str, owner: Owner) -> None:
        """Removes a job that ended, and all its files. Raises BadInput for one that has not ended."""
        raise NotImplementedError

    def image(self, image_id: str, owner: Owner) -> tuple[JobImage, bytes]:
        """The file of an image; its hash is checked. Raises StoreFailed where the file was damaged or removed."""
        raise NotImplementedError

    def thumbnail(self, image_id: str, owner: Owner) -> bytes | None:
        raise NotImplementedError

    def upload(self, data: bytes, owner: Owner) -> str:
        """Keeps bytes under the name "upload:SHA256". Raises TooLarge where a file, or all of the owner's, are over the
        limit."""
        raise NotImplementedError

    def uploaded(self, name: str, owner: Owner) -> bytes:
        """The bytes of an upload; their hash is checked."""
        raise NotImplementedError

    # What workers do.

    def claim(self, worker: str, kinds: Collection[str] | None = None) -> Claimed | None:
        """The job that is next by priority, fair share between owners and order of acceptance; None where none waits.

        kinds: those the worker does, None = all.
        """
        raise NotImplementedError

    def heartbeat(self, lease: Lease) -> None:
        raise NotImplementedError

    def progress(self, lease: Lease, progress: JobProgress) -> None:
        """Remembered in memory only."""
        raise NotImplementedError

    def cancelling(self, lease: Lease) -> bool:
        """Whether the owner has cancelled the running job."""
        raise NotImplementedError

    def warn(self, lease: Lease, message: str) -> None:
        raise NotImplementedError

    def add_image(self, lease: Lease, image: MadeImage) -> JobImage:
        """Makes a file durable and then lists it. An index that an earlier attempt listed stays as it is."""
        raise NotImplementedError

    def save_state(self, lease: Lease, state: SavedState) -> None:
        """Replaces the saved middle of the job, whole or not at all; it is removed when the job ends."""
        raise NotImplementedError

    def finish(self, lease: Lease, result: Mapping[str, Json] | None = None) -> Job:
        """The job is done: all its images were added."""
        raise NotImplementedError

    def fail(self, lease: Lease, error: JobError) -> Job:
        """The job cannot be done; it is not tried again. What was made stays."""
        raise NotImplementedError

    def stopped(self, lease: Lease) -> Job:
        """The worker stopped the job because it was cancelled. What was made stays."""
        raise NotImplementedError

    def give_back(self, lease: Lease) -> Job:
        """A graceful stop: the job waits again where it was, and the attempt does not count."""
        raise NotImplementedError

    def lost(self, lease: Lease, reason: str) -> Job:
        """The worker died: the job waits again as the next attempt, or is quarantined after the last one.

        reason: one line, for the error of the quarantined job.
        """
        raise NotImplementedError

    # What the server does from time to time.

    def overdue(self) -> tuple[Overdue, ...]:
        """Ends or requeues what ran out of time: leases without heartbeat, runs and waits over their limits.

        To be called every second or so. The workers named must be stopped: their leases are void.
        """
        raise NotImplementedError

    def prune(self) -> int:
        """Removes the oldest ended jobs over the limits of bytes and number, and uploads that no waiting or running job
        needs and that are older than a day; returns the bytes that were freed."""
        raise NotImplementedError

    def counts(self) -> Counts:
        raise NotImplementedError

    def set_workers(self, count: int) -> None:
        """How many jobs run side by side: what expected times reckon with."""
        raise NotImplementedError
