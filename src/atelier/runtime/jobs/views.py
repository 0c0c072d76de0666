"""Jobs as their owners see them: rows, images, and what is known of the queue and of progress at the moment."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

from atelier.runtime.jobs.held import Leases
from atelier.runtime.jobs.job import Job, State
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.queue import Outlook, Queue
from atelier.runtime.jobs.rows import NOTHING_DONE, AnyRow, images_of, job_of, owned, row_of
from atelier.runtime.jobs.tables import jobs

_NO_OUTLOOK = Outlook({}, {})


class Views:
    """Answers for one owner."""

    def __init__(self, parts: Parts, queue: Queue, leases: Leases) -> None:
        self._parts = parts
        self._queue = queue
        self._leases = leases

    def of(self, connection: Connection, rows: Sequence[AnyRow]) -> tuple[Job, ...]:
        """The jobs of rows."""
        made = images_of(connection, [row.id for row in rows])
        alive = any(not State(row.state).ended for row in rows)
        outlook = self._queue.outlook(connection) if alive else _NO_OUTLOOK
        progress = {held.lease.job_id: held.progress for held in self._leases.all()}
        return tuple(
            job_of(
                row,
                made[row.id],
                position=outlook.position.get(row.id),
                expected=outlook.expected.get(row.id),
                progress=progress.get(row.id, NOTHING_DONE),
            )
            for row in rows
        )

    def one(self, connection: Connection, job_id: str) -> Job:
        """A job whose row is known to be there."""
        row = row_of(connection, job_id)
        assert row is not None
        return self.of(connection, [row])[0]

    def begun(self, connection: Connection, job_id: str) -> Job:
        """The same for one that has just begun: nobody asks how long it will take."""
        row = row_of(connection, job_id)
        assert row is not None
        return job_of(row, images_of(connection, [job_id])[job_id])

    def job(self, job_id: str, owner: str) -> Job:
        """Raises UnknownJob."""
        with self._parts.database.read() as connection:
            return self.of(connection, [owned(connection, job_id, owner)])[0]

    def jobs(
        self, owner: str, limit: int, before: str | None, states: Collection[State], kind: str | None = None
    ) -> tuple[Job, ...]:
        """Newest first, from behind `before`; only those in one of the states. Raises UnknownJob."""
        mine = [jobs.c.owner == owner, jobs.c.state.in_(states)]
        mine += [] if kind is None else [jobs.c.kind == kind]
        query = select(jobs).where(*mine).order_by(jobs.c.sequence.desc()).limit(max(limit, 0))
        with self._parts.database.read() as connection:
            if before is not None:
                query = query.where(jobs.c.sequence < owned(connection, before, owner).sequence)
            return self.of(connection, connection.execute(query).all())

    def alive(self, owner: str) -> tuple[Job, ...]:
        """All that run, in the order in which they started, then all that wait, in the order in which they will."""
        query = select(jobs).where(jobs.c.owner == owner, jobs.c.state.in_((State.RUNNING, State.QUEUED)))
        with self._parts.database.read() as connection:
            found = self.of(connection, connection.execute(query.order_by(jobs.c.sequence)).all())
        started = {held.lease.job_id: place for place, held in enumerate(self._leases.all())}
        running = [job for job in found if job.state is State.RUNNING]
        waiting = [job for job in found if job.state is State.QUEUED]
        running.sort(key=lambda job: started.get(job.id, len(started)))
        waiting.sort(key=lambda job: len(found) if job.position is None else job.position)
        return (*running, *waiting)

    def running(self, owner: str) -> Job | None:
        """What runs, or else what starts next."""
        with self._parts.database.read() as connection:
            query = select(jobs).where(jobs.c.owner == owner, jobs.c.state == State.RUNNING)
            rows = connection.execute(query.order_by(jobs.c.sequence)).all()
            order = {held.lease.job_id: place for place, held in enumerate(self._leases.all())}
            if rows:
                return self.of(connection, [min(rows, key=lambda row: order.get(row.id, len(order)))])[0]
            first = next((job for job in self._queue.order(connection) if job.owner == owner), None)
            return None if first is None else self.one(connection, first.id)
