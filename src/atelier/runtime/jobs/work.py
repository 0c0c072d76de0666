"""What workers do with jobs: each change is guarded by the lease, so that a job ends once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from sqlalchemy import Connection, bindparam, insert, select, update

from atelier.request.events import Json
from atelier.runtime.jobs import saved
from atelier.runtime.jobs.facts import Fact
from atelier.runtime.jobs.fairness import Waiting
from atelier.runtime.jobs.faults import Faults
from atelier.runtime.jobs.files import OUTPUTS
from atelier.runtime.jobs.gallery import enter, of_image
from atelier.runtime.jobs.held import Held, Leases
from atelier.runtime.jobs.job import Job, JobError, JobImage, JobProgress, State, StoreFailed
from atelier.runtime.jobs.lease import Claimed, Lease, LeaseLost, MadeImage, Overdue, SavedState
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.queue import Queue
from atelier.runtime.jobs.rows import (
    FORMATS,
    AnyRow,
    error_text,
    image_of,
    image_row,
    intact,
    listed_image,
    new_id,
    row_of,
    warnings_of,
    warnings_text,
    written,
)
from atelier.runtime.jobs.tables import images, jobs, thumbnails
from atelier.runtime.jobs.views import Views

WAITS: Mapping[str, object] = {"state": State.QUEUED, "lease": None, "started": None}
"""What a row says once its job waits again."""
_FILES = select(images.c.file).where(images.c.job == bindparam("job"))


class Work:
    """changed: called with the id of a job after a commit that changed it."""

    def __init__(
        self, parts: Parts, queue: Queue, leases: Leases, views: Views, faults: Faults, changed: Callable[[str], None]
    ) -> None:
        self._parts = parts
        self._queue = queue
        self._leases = leases
        self._views = views
        self._faults = faults
        self._changed = changed
        self._watched = parts.clock.steady()

    def claim(self, worker: str, kinds: Collection[str] | None) -> Claimed | None:
        """The next job. One whose row was damaged fails at once, and the one behind it is taken."""
        self._faults.at("claim", may_fail=False)
        while not self._queue.is_empty and (taken := self._take(worker, kinds)) is not None:
            job_id, claimed = taken
            self._queue.left(job_id)
            self._changed(job_id)
            if claimed is not None:
                return claimed
        return None

    def progress(self, lease: Lease, progress: JobProgress) -> None:
        """Remembers how far the job is."""
        self._leases.beat(lease, self._parts.clock.steady()).progress = progress
        self._changed(lease.job_id)

    def warn(self, lease: Lease, message: str) -> None:
        """Adds a warning, once."""
        with self._leases.using(lease, self._parts.clock.steady()) as held, self._parts.database.write() as connection:
            warnings = warnings_of(self._row(connection, held))
            if message not in warnings:
                self._update(connection, held, {"warnings": warnings_text([*warnings, message])})
        self._changed(lease.job_id)

    def add_image(self, lease: Lease, image: MadeImage) -> JobImage:
        """File first, row second."""
        if image.format not in FORMATS:
            raise ValueError(f"{image.format!r} is no format of images: {', '.join(sorted(FORMATS))}")
        with self._leases.using(lease, self._parts.clock.steady()) as held:
            made = self._again(held, image) if image.index in held.listed else self._add(held, image)
        self._changed(lease.job_id)
        return made

    def save_state(self, lease: Lease, state: SavedState) -> None:
        """Replaces the saved middle of the job."""
        with self._leases.using(lease, self._parts.clock.steady()):
            saved.save(self._parts.files, lease.job_id, state)

    def finish(self, lease: Lease, result: Mapping[str, Json] | None) -> Job:
        """The job is done, and its time tells how long others will take."""
        self._faults.at("finish", may_fail=False)
        text = None if result is None else written(result)

        def step(held: Held) -> Job:
            with self._parts.database.write() as connection:
                warnings = warnings_text(warnings_of(self._row(connection, held)), held.progress.total)
                self._check_files(connection, lease.job_id)
                job = self._ended(connection, held, State.DONE, {"result": text, "warnings": warnings})
            self._leases.drop(held)
            saved.drop(self._parts.files, lease.job_id)
            self._queue.rates.record(held.kind, held.cost, self._ran(held))
            return job

        return self._told(lease, step)

    def fail(self, lease: Lease, error: JobError) -> Job:
        """The job cannot be done."""
        return self._told(lease, lambda held: self._end(held, State.FAILED, {"error": error_text(error)}))

    def stopped(self, lease: Lease) -> Job:
        """The worker stopped it."""
        return self._told(lease, lambda held: self._end(held, State.CANCELLED, {}))

    def give_back(self, lease: Lease) -> Job:
        """The job waits again; the attempt does not count."""

        def step(held: Held) -> Job:
            job = self._requeue(held, {"attempt": lease.attempt - 1})
            self._queue.share.given_back(held.waiting)
            return job

        return self._told(lease, step)

    def lost(self, lease: Lease, reason: str) -> Job:
        """The worker died."""
        return self._told(lease, lambda held: self._lost(held, reason))

    def overdue(self) -> tuple[Overdue, ...]:
        """Ends or requeues what ran out of time."""
        now = self._parts.clock.steady()
        if now - self._watched > self._parts.limits.lease:
            self._leases.renew(now)
        self._watched = now
        found = [self._late(held, now) for held in self._leases.all()]
        found += [self._tired(job_id) for job_id in self._queue.tired()]
        return tuple(late for late in found if late is not None)

    def _told(self, lease: Lease, step: Callable[[Held], Job]) -> Job:
        """Does a step while the lease is valid, and tells of it once nothing is locked."""
        with self._leases.using(lease, self._parts.clock.steady()) as held:
            job = step(held)
        self._changed(lease.job_id)
        return job

    # How a claim is made.

    def _take(self, worker: str, kinds: Collection[str] | None) -> tuple[str, Claimed | None] | None:
        """The id of the job that was next, and None beside it if it could not be begun; None where none waits.

        The lease is valid before the commit, so that a cancel right behind it finds whom to tell.
        """
        held = None
        try:
            with self._parts.database.write() as connection:
                waiting = next(iter(self._queue.order(connection, kinds)), None)
                row = None if waiting is None else row_of(connection, waiting.id)
                if waiting is None or row is None:
                    return None
                if not intact(row):
                    self._spoil(connection, row)
                    return row.id, None
                held = self._held(row, waiting, worker)
                self._leases.give(held)
                claimed = self._begin(connection, held)
        except BaseException:
            if held is not None:
                self._leases.drop(held)
            raise
        self._queue.share.started(waiting)
        return row.id, claimed

    def _held(self, row: AnyRow, waiting: Waiting, worker: str) -> Held:
        now, limits = self._parts.clock.steady(), self._parts.limits
        return Held(
            lease=Lease(row.id, worker, row.attempt + 1, new_id()),
            waiting=waiting,
            kind=row.kind,
            cost=row.cost,
            since=max(self._parts.clock.now(), row.created),
            started=now,
            run_until=now + min(row.timeout or limits.run_of(row.kind), limits.run_of(row.kind)),
            alive_until=now + limits.lease,
        )

    def _begin(self, connection: Connection, held: Held) -> Claimed:
        lease = held.lease
        this = update(jobs).where(jobs.c.id == lease.job_id, jobs.c.state == State.QUEUED)
        running = {"state": State.RUNNING, "lease": lease.token, "attempt": lease.attempt, "started": held.since}
        connection.execute(this.values(running))
        job = self._views.begun(connection, lease.job_id)
        held.listed.update(made.index for made in job.images)
        return Claimed(lease, job, saved.load(self._parts.files, lease.job_id))

    def _spoil(self, connection: Connection, row: AnyRow) -> None:
        error = JobError("StoreFailed", "the job was damaged in the database: send it again")
        ended = max(self._parts.clock.now(), row.created)
        this = update(jobs).where(jobs.c.id == row.id)
        connection.execute(this.values(state=State.FAILED, ended=ended, error=error_text(error)))

    # How images are listed.

    def _add(self, held: Held, image: MadeImage) -> JobImage:
        path = _path(held.lease.job_id, image.index, image.format)
        try:
            self._parts.files.write(path, image.data, "image")
            row = image_row(held.lease.job_id, image, path.rpartition("/")[2])
            self._list(held, row, of_image(listed_image(row, image)), image.thumbnail)
        except BaseException:
            with suppress(StoreFailed):
                if self._listed(held.lease.job_id, image.index) is None:
                    self._parts.files.remove(path)
            raise
        held.listed.add(image.index)
        return listed_image(row, image)

    def _again(self, held: Held, image: MadeImage) -> JobImage:
        """An image that was listed before, by an earlier attempt say; its file is written again where it is gone."""
        made = self._listed(held.lease.job_id, image.index)
        if made is None:
            return self._add(held, image)
        path = _path(held.lease.job_id, made.index, made.format)
        if not self._parts.files.exists(path) and hashlib.sha256(image.data).hexdigest() == made.sha256:
            self._parts.files.write(path, image.data, "image")
        return made

    def _listed(self, job_id: str, number: int) -> JobImage | None:
        with self._parts.database.read() as connection:
            row = connection.execute(select(images).where(images.c.job == job_id, images.c.number == number)).first()
        return None if row is None else image_of(row)

    def _list(self, held: Held, values: Mapping[str, object], found_by: tuple[Fact, ...], small: bytes | None) -> None:
        with self._parts.database.write() as connection:
            owner = self._row(connection, held).owner
            self._faults.at("list")
            connection.execute(insert(images), values)
            enter(connection, owner, str(values["id"]), found_by, max(self._parts.clock.now(), held.since))
            if small is not None:
                connection.execute(insert(thumbnails), {"image": values["id"], "data": small})

    def _check_files(self, connection: Connection, job_id: str) -> None:
        """A job is done only if its files are there."""
        for name in connection.scalars(_FILES, {"job": job_id}).all():
            if not self._parts.files.exists(f"{OUTPUTS}/{name}"):
                raise StoreFailed(
                    f"image {name}: was removed before the job was done", path=self._parts.files.folder / OUTPUTS / name
                )

    # How rows change.

    def _row(self, connection: Connection, held: Held) -> AnyRow:
        """The row of a job that is still its worker's. Raises LeaseLost."""
        row = row_of(connection, held.lease.job_id)
        if row is None or row.state != State.RUNNING or row.lease != held.lease.token:
            raise LeaseLost(f"job {held.lease.job_id}: is no longer of {held.lease.worker}")
        return row

    def _update(self, connection: Connection, held: Held, values: Mapping[str, object]) -> None:
        """Changes the row while it is the worker's; otherwise raises LeaseLost and changes nothing."""
        self._faults.at("update")
        this = update(jobs).where(jobs.c.id == held.lease.job_id, jobs.c.lease == held.lease.token)
        done = connection.execute(this.where(jobs.c.state == State.RUNNING).values(dict(values)))
        if done.rowcount != 1:
            raise LeaseLost(f"job {held.lease.job_id}: is no longer of {held.lease.worker}")

    def _end(self, held: Held, state: State, values: Mapping[str, object]) -> Job:
        """A running job ends. To be called with the lease in use."""
        with self._parts.database.write() as connection:
            job = self._ended(connection, held, state, values)
        self._left(held)
        return job

    def _left(self, held: Held) -> None:
        """Nobody works at the job any more, which has ended without being done."""
        self._leases.drop(held)
        saved.leave(self._parts.files, held.lease.job_id, self._parts.clock.now())

    def _ended(self, connection: Connection, held: Held, state: State, values: Mapping[str, object]) -> Job:
        ended = max(self._parts.clock.now(), held.since)
        usual = {"state": state, "lease": None, "ended": ended, "seconds": self._ran(held)}
        self._update(connection, held, {**usual, **values})
        return self._views.one(connection, held.lease.job_id)

    def _requeue(self, held: Held, values: Mapping[str, object], last: JobError | None = None) -> Job:
        """The job waits again, unless its owner has cancelled it or `last` says why that was its last attempt."""
        with self._parts.database.write() as connection:
            if self._row(connection, held).cancelling:
                job = self._ended(connection, held, State.CANCELLED, {})
            elif last is not None:
                job = self._ended(connection, held, State.QUARANTINED, {"error": error_text(last)})
            else:
                self._update(connection, held, {**WAITS, **values})
                job = self._views.one(connection, held.lease.job_id)
        self._leases.drop(held)
        if job.state.ended:
            saved.leave(self._parts.files, job.id, self._parts.clock.now())
        else:
            self._queue.entered(job.id)
        return job

    def _lost(self, held: Held, reason: str) -> Job:
        again = held.lease.attempt < self._parts.limits.attempts_of(held.kind)
        return self._requeue(held, {}, None if again else JobError("WorkerDied", reason))

    def _late(self, held: Held, now: float) -> Overdue | None:
        """What became of a job that runs, if it is late."""
        limits, lease = self._parts.limits, held.lease
        with held.busy:
            if held.void:
                return None
            if now >= held.run_until:
                ran = JobError("TimedOut", f"the job ran longer than {held.run_until - held.started:g} seconds")
                job = self._end(held, State.TIMED_OUT, {"error": error_text(ran)})
            elif now >= held.alive_until:
                job = self._lost(held, f"nothing was heard of worker {lease.worker} for {limits.lease:g} seconds")
            else:
                return None
        self._changed(lease.job_id)
        return Overdue(lease.job_id, lease.worker, job.state)

    def _tired(self, job_id: str) -> Overdue | None:
        """What became of a job that has waited for too long."""
        error = JobError("TimedOut", f"the job waited longer than {self._parts.limits.wait:g} seconds")
        with self._parts.database.write() as connection:
            row = row_of(connection, job_id)
            late = row is not None and row.state == State.QUEUED
            if row is not None and late:
                ended = max(self._parts.clock.now(), row.created)
                this = update(jobs).where(jobs.c.id == job_id, jobs.c.state == State.QUEUED)
                connection.execute(this.values(state=State.TIMED_OUT, ended=ended, error=error_text(error)))
        self._queue.left(job_id)
        if not late:
            return None
        saved.leave(self._parts.files, job_id, self._parts.clock.now())
        self._changed(job_id)
        return Overdue(job_id, "", State.TIMED_OUT)

    def _ran(self, held: Held) -> float:
        return self._parts.clock.steady() - held.started


def _path(job_id: str, index: int, form: str) -> str:
    return f"{OUTPUTS}/{job_id}-{index:05d}.{form}"
