"""What owners do with jobs: have them accepted, and cancel them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, select, update

from atelier.errors import BadInput, about
from atelier.runtime.jobs import saved
from atelier.runtime.jobs.faults import Faults
from atelier.runtime.jobs.held import Leases
from atelier.runtime.jobs.inputs import Uploads
from atelier.runtime.jobs.job import Job, NewJob, State, TooLarge
from atelier.runtime.jobs.lease import Accepted, Settled
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.queue import PLACE, Queue
from atelier.runtime.jobs.rows import new_row, owned, same_fields, written
from atelier.runtime.jobs.tables import jobs, keys
from atelier.runtime.jobs.views import Views

MAX_PRIORITY = 1000
KEY = "Idempotency-Key"
"""The header."""


class Requests:
    """changed: called with the id of a job after a commit that changed it."""

    def __init__(
        self,
        parts: Parts,
        queue: Queue,
        leases: Leases,
        views: Views,
        uploads: Uploads,
        faults: Faults,
        changed: Callable[[str], None],
    ) -> None:
        self._parts = parts
        self._queue = queue
        self._leases = leases
        self._views = views
        self._uploads = uploads
        self._faults = faults
        self._changed = changed

    def accept(self, job: NewJob, owner: str, settled: Settled) -> Accepted:
        """Commits a job, or finds the one that the key was given for."""
        _check(job, settled, self._parts.limits.cost)
        self._faults.at("accept", may_fail=False)
        with self._parts.database.write() as connection:
            earlier = self._keyed(connection, job, owner)
            if earlier is not None:
                return Accepted(self._views.one(connection, earlier), new=False)
            self._queue.check_room(connection, owner)
            made = self._views.one(connection, self._insert(connection, job, owner, settled))
        self._queue.entered(made.id)
        self._changed(made.id)
        return Accepted(made, new=True)

    def repeated(self, job: NewJob, owner: str) -> Job | None:
        """The job that the key was given for."""
        with self._parts.database.read() as connection:
            earlier = self._keyed(connection, job, owner)
            return None if earlier is None else self._views.one(connection, earlier)

    def cancel(self, job_id: str, owner: str) -> Job:
        """Ends a job that waits, marks one that runs."""
        with self._parts.database.write() as connection:
            row = owned(connection, job_id, owner)
            this = update(jobs).where(jobs.c.id == job_id)
            if row.state == State.QUEUED:
                ended = max(self._parts.clock.now(), row.created)
                connection.execute(this.where(jobs.c.state == State.QUEUED).values(state=State.CANCELLED, ended=ended))
            elif row.state == State.RUNNING:
                connection.execute(this.where(jobs.c.state == State.RUNNING).values(cancelling=True))
            job = self._views.one(connection, job_id)
        held = self._leases.of(job_id)
        if held is not None:
            held.cancelling = True
        if row.state == State.QUEUED:
            self._queue.left(job_id)
            saved.leave(self._parts.files, job_id, self._parts.clock.now())
        if not State(row.state).ended:
            self._changed(job_id)
        return job

    def to_front(self, job_id: str, owner: str) -> Job:
        """Lets a job that waits start before all others of its owner. It takes no higher priority than one of these
        has, and nothing of the share of others. Raises BadInput for a job that waits no longer."""
        with self._parts.database.write() as connection:
            if owned(connection, job_id, owner).state != State.QUEUED:
                raise BadInput(f"job {job_id} does not wait any more: only what waits can be moved to the front")
            waiting = jobs.c.owner == owner, jobs.c.state == State.QUEUED
            first, highest = connection.execute(
                select(func.min(PLACE), func.max(jobs.c.priority)).where(*waiting)
            ).one()
            this = update(jobs).where(jobs.c.id == job_id, *waiting)
            connection.execute(this.values(place=first - 1, priority=highest))
            job = self._views.one(connection, job_id)
        self._changed(job_id)
        return job

    def _insert(self, connection: Connection, job: NewJob, owner: str, settled: Settled) -> str:
        row = new_row(job, owner, settled, self._parts.clock.now())
        connection.execute(insert(jobs), row)
        job_id = str(row["id"])
        self._uploads.link(connection, job_id, settled.uploads, owner)
        if job.idempotency_key is not None:
            name = _key(owner, job.idempotency_key)
            connection.execute(delete(keys).where(keys.c.name == name))
            connection.execute(insert(keys).values(name=name, job=job_id, created=row["created"]))
        return job_id

    def _keyed(self, connection: Connection, job: NewJob, owner: str) -> str | None:
        """The job of the same key; a clock that was set back makes the key live longer, never shorter. Raises BadInput
        where it asked for something else."""
        if job.idempotency_key is None:
            return None
        after = self._parts.clock.now() - self._parts.limits.idempotency
        query = select(jobs.c.id, jobs.c.kind, jobs.c.asked).join(keys, keys.c.job == jobs.c.id)
        row = connection.execute(
            query.where(keys.c.name == _key(owner, job.idempotency_key), keys.c.created > after)
        ).first()
        if row is None:
            return None
        if row.kind != job.kind or not same_fields(row.asked, job.fields):
            with about(KEY):
                raise BadInput(f"{KEY}: was sent with other fields before: take a new one for another job")
        return str(row.id)


def _key(owner: str, key: str) -> str:
    return hashlib.sha256(written([owner, key]).encode()).hexdigest()


def _check(job: NewJob, settled: Settled, limit: float) -> None:
    if not -MAX_PRIORITY <= job.priority <= MAX_PRIORITY:
        raise BadInput(f"priority: {job.priority} is out of range: use -{MAX_PRIORITY} to {MAX_PRIORITY}")
    if job.timeout is not None and not (math.isfinite(job.timeout) and job.timeout > 0):
        raise BadInput(f"timeout: {job.timeout} is no time to run: give seconds above 0")
    if not (math.isfinite(settled.cost) and settled.cost > 0 and settled.cost <= limit):
        raise TooLarge(f"the job is too much work ({settled.cost:g}, and at most {limit:g} is taken): ask for less")
