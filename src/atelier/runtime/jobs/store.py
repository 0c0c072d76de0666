"""The store of jobs: what was accepted survives every process, and ends exactly once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from atelier.request.events import Json
from atelier.runtime.jobs import courses, recovery, saved
from atelier.runtime.jobs.canvases import Canvases
from atelier.runtime.jobs.clock import SYSTEM, Clock
from atelier.runtime.jobs.collection import Change
from atelier.runtime.jobs.database import NAME, Place, place
from atelier.runtime.jobs.faults import NO_FAULTS, Faults
from atelier.runtime.jobs.files import STATES, Files
from atelier.runtime.jobs.gallery import AT_ONCE, Gallery
from atelier.runtime.jobs.held import Leases
from atelier.runtime.jobs.history import History
from atelier.runtime.jobs.inputs import Uploads
from atelier.runtime.jobs.job import Job, JobError, JobImage, JobProgress, NewJob, Owner, State, StoreFailed
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
from atelier.runtime.jobs.lock import FolderLock
from atelier.runtime.jobs.opening import opened
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.queue import Queue
from atelier.runtime.jobs.requests import Requests
from atelier.runtime.jobs.views import Views
from atelier.runtime.jobs.work import Work


class JobStore:
    """All methods are synchronous and may be called from any thread; one process has a store open at a time.

    Every method may raise StoreFailed (the disk or the database refuses); nothing is then half done. Methods that take
    an owner raise UnknownJob for what belongs to another. Methods that take a lease raise LeaseLost once it is void;
    each of them counts as a heartbeat.
    """

    canvases: Canvases
    """What owners paint on, by their keys."""
    gallery: Gallery
    """The images of owners, by their keys."""
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
        faults: Faults = NO_FAULTS,
    ) -> JobStore:
        """Opens the store in a folder, making it or bringing it to the newest schema.

        url: None or "sqlite:///FILE" for SQLite (in the folder unless said), "postgresql://..." for PostgreSQL; images
        always lie in the folder. changed: called with the id of a job after each commit that changed it, in the thread
        that did. Jobs that were running when the last server died wait again, as the next attempt. Raises FolderInUse
        where another process has the folder or database open.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailed(f"{folder}: cannot be made a folder ({error.strerror}): choose another place") from error
        where = place(folder, url)
        with ExitStack() as undo:
            lock = FolderLock(folder)
            undo.callback(lock.release, closed=False)
            notices = _missing(where, folder) if lock.killed else []
            files = Files(folder, faults)
            files.prepare()
            database, more = opened(where, faults)
            undo.callback(database.close)
            store = cls(Parts(database, files, limits, clock), lock, faults, changed)
            store._recover((*notices, *more))
            lock.opened()
            undo.pop_all()
        return store

    def close(self) -> None:
        """Gives the folder free. Running jobs should have been given back before."""
        self._parts.database.close()
        self._lock.release(closed=True)

    def __init__(self, parts: Parts, lock: FolderLock, faults: Faults, changed: Callable[[str], None]) -> None:
        """To be called by `open` alone."""
        removing = threading.RLock()
        self.notices = ()
        self._parts = parts
        self._lock = lock
        self._leases = Leases(parts.limits.lease)
        self._queue = Queue(parts.limits, parts.clock, self._leases)
        self._views = Views(parts, self._queue, self._leases)
        self._uploads = Uploads(parts, removing)
        self.canvases = Canvases(parts)
        self.gallery = Gallery(parts)
        self._history = History(parts, self._uploads, self.gallery, removing)
        self._requests = Requests(parts, self._queue, self._leases, self._views, self._uploads, faults, changed)
        self._work = Work(parts, self._queue, self._leases, self._views, faults, changed)

    def _recover(self, notices: tuple[str, ...]) -> None:
        """Settles what the last server left: its running jobs, and files that were being written or removed."""
        with self._parts.database.write() as connection:
            ran = recovery.recover(connection, self._parts)
            waiting = recovery.waiting(connection)
            self._queue.learn(connection)
        for job_id in waiting:
            self._queue.entered(job_id)
        self._parts.files.sweep()
        self._history.remove_unlisted(ran)
        self._history.remove_doomed()
        for name in self._parts.files.names(STATES) - set(waiting):
            self._parts.files.remove(f"{STATES}/{name}")
        self._history.expire_runs()
        died = (f"{len(ran)} jobs were running when the last server died: {', '.join(ran)}",) if ran else ()
        self.notices = (*notices, *died)

    # What owners ask.

    def accept(self, job: NewJob, owner: Owner, settled: Settled = UNSETTLED) -> Accepted:
        """Commits a job; once this returns, it survives the death of every process.

        Raises QueueFull, TooLarge for a cost over the limit, UnknownJob for an upload that is not the owner's.
        """
        return self._requests.accept(job, owner.key, settled)

    def repeated(self, job: NewJob, owner: Owner) -> Job | None:
        """The job that the idempotency key was given for in the last 24 hours: asked before anything is settled."""
        return self._requests.repeated(job, owner.key)

    def job(self, job_id: str, owner: Owner) -> Job:
        return self._views.job(job_id, owner.key)

    def jobs(
        self,
        owner: Owner,
        *,
        limit: int = 100,
        before: str | None = None,
        states: Collection[State] = tuple(State),
        kind: str | None = None,
    ) -> tuple[Job, ...]:
        """The owner's in one of the states, newest first, from behind the job `before`; kind None: of all kinds."""
        return self._views.jobs(owner.key, limit, before, states, kind)

    def alive(self, owner: Owner) -> tuple[Job, ...]:
        """The owner's jobs that run, then those that wait in the order in which they will start."""
        return self._views.alive(owner.key)

    def to_front(self, job_id: str, owner: Owner) -> Job:
        """Lets a job that waits start before the owner's others. Raises BadInput for one that waits no longer."""
        return self._requests.to_front(job_id, owner.key)

    def running(self, owner: Owner) -> Job | None:
        """The owner's job that runs (the one that started first), or else the one that starts next."""
        return self._views.running(owner.key)

    def cancel(self, job_id: str, owner: Owner) -> Job:
        """Ends a job that waits. A running one is marked (`cancelling` tells), and never starts again: its worker must
        be told to stop, and answers with `stopped`. One that ended stays as it is."""
        return self._requests.cancel(job_id, owner.key)

    def delete(self, job_id: str, owner: Owner) -> None:
        """Removes a job that ended, and all its files. Raises BadInput for one that has not ended."""
        self._history.delete(job_id, owner.key)

    def course(self, job_id: str, owner: Owner) -> dict[str, Json]:
        """How a job that teaches went until now, {"points", "checks"}: as its run or, once it is done, its result
        tells. Both are empty for others, and where the run is not kept any more."""
        job = self.job(job_id, owner)
        told = (job.result or {}).get("course")
        return dict(told) if isinstance(told, dict) else courses.course(saved.run(self._parts.files, job.id))

    def expected(self, kind: str, cost: float) -> float | None:
        """Seconds that a job of that cost will take; None before one of its kind was done."""
        return self._queue.rates.seconds(kind, cost)

    def kept(self) -> Mapping[str, int]:
        """Bytes on disk by what they are: the database, the middles of images, the runs of trainings."""
        folder, file = self._parts.files.folder, self._parts.database.place.file
        beside = () if file is None else (file, file.with_name(f"{file.name}-wal"))
        return {
            "database": sum(path.stat().st_size for path in beside if path.exists()),
            "states": saved.size(folder / STATES),
            "runs": saved.size(folder / saved.RUNS),
        }

    @property
    def place(self) -> str:
        """Where the database is, without a password."""
        return self._parts.database.place.said

    @property
    def folder(self) -> Path:
        return self._parts.files.folder

    @property
    def limits(self) -> Limits:
        return self._parts.limits

    def image(self, image_id: str, owner: Owner) -> tuple[JobImage, bytes]:
        """The file of an image; its hash is checked. Raises StoreFailed where the file was damaged or removed."""
        return self._history.image(image_id, owner.key)

    def about(self, image_id: str, owner: Owner) -> JobImage:
        """What is known of an image, also where its file is gone."""
        return self._history.about(image_id, owner.key)

    def thumbnail(self, image_id: str, owner: Owner) -> bytes | None:
        return self._history.thumbnail(image_id, owner.key)

    def change_images(self, owner: Owner, image_ids: Sequence[str], change: Change) -> int:
        """Does the same to several images; how many it concerned. What is purged loses its file."""
        slices = [image_ids[at : at + AT_ONCE] for at in range(0, len(image_ids), AT_ONCE)]
        count = sum(self.gallery.change(owner.key, part, change) for part in slices)
        if change == "purge":
            self._history.remove_doomed()
        return count

    def upload(self, data: bytes, owner: Owner) -> str:
        """Keeps bytes under the name "upload:SHA256". Raises TooLarge where a file, or all of the owner's, are over the
        limit."""
        return self._uploads.add(data, owner.key)

    def uploaded(self, name: str, owner: Owner) -> bytes:
        """The bytes of an upload; their hash is checked."""
        return self._uploads.read(name, owner.key)

    # What workers do.

    def claim(self, worker: str, kinds: Collection[str] | None = None) -> Claimed | None:
        """The job that is next by priority, fair share between owners and order of acceptance; None where none waits.

        kinds: those the worker does, None = all.
        """
        return self._work.claim(worker, kinds)

    def heartbeat(self, lease: Lease) -> None:
        self._leases.beat(lease, self._parts.clock.steady())

    def progress(self, lease: Lease, progress: JobProgress) -> None:
        """Remembered in memory only."""
        self._work.progress(lease, progress)

    def cancelling(self, lease: Lease) -> bool:
        """Whether the owner has cancelled the running job."""
        return self._leases.beat(lease, self._parts.clock.steady()).cancelling

    def warn(self, lease: Lease, message: str) -> None:
        self._work.warn(lease, message)

    def add_image(self, lease: Lease, image: MadeImage) -> JobImage:
        """Makes a file durable and then lists it. An index that an earlier attempt listed stays as it is."""
        return self._work.add_image(lease, image)

    def save_state(self, lease: Lease, state: SavedState) -> None:
        """Replaces the saved middle of the job, whole or not at all; it is removed when the job ends."""
        self._work.save_state(lease, state)

    def finish(self, lease: Lease, result: Mapping[str, Json] | None = None) -> Job:
        """The job is done: all its images were added."""
        return self._work.finish(lease, result)

    def fail(self, lease: Lease, error: JobError) -> Job:
        """The job cannot be done; it is not tried again. What was made stays."""
        return self._work.fail(lease, error)

    def stopped(self, lease: Lease) -> Job:
        """The worker stopped the job because it was cancelled. What was made stays."""
        return self._work.stopped(lease)

    def give_back(self, lease: Lease) -> Job:
        """A graceful stop: the job waits again where it was, and the attempt does not count."""
        return self._work.give_back(lease)

    def lost(self, lease: Lease, reason: str) -> Job:
        """The worker died: the job waits again as the next attempt, or is quarantined after the last one.

        reason: one line, for the error of the quarantined job.
        """
        return self._work.lost(lease, reason)

    # What the server does from time to time.

    def overdue(self) -> tuple[Overdue, ...]:
        """Ends or requeues what ran out of time: leases without heartbeat, runs and waits over their limits.

        To be called every second or so. The workers named must be stopped: their leases are void.
        """
        return self._work.overdue()

    def prune(self) -> int:
        """Removes the oldest ended jobs over the limits of bytes and number, uploads that no waiting or running job
        needs, no canvas shows, and that are older than a day, and what has lain in the trash for long; returns the
        bytes that were freed. Reads the facts of images that an older version listed."""
        while self.gallery.index():
            pass
        return self._history.prune()

    def counts(self) -> Counts:
        return self._history.counts()

    def set_workers(self, count: int) -> None:
        """How many jobs run side by side: what expected times reckon with."""
        self._queue.workers = count


def _missing(where: Place, folder: Path) -> list[str]:
    """What is gone of an SQLite database that was not closed: its last server left the file and the journal."""
    if where.file is None or where.file != folder / NAME:
        return []
    if not where.file.exists() or not where.file.stat().st_size:
        return [f"THE DATABASE OF JOBS IS GONE: {where.file}. A new one is begun; images are untouched"]
    if not where.file.with_name(f"{NAME}-wal").exists():
        return [f"THE JOURNAL OF THE DATABASE OF JOBS IS GONE: {where.file}-wal. The newest jobs may be lost"]
    return []
