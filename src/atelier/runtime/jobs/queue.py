"""The jobs that wait, in their order, and what can be said about when they end."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from atelier.runtime.jobs.clock import Clock
from atelier.runtime.jobs.fairness import FairShare, Waiting
from atelier.runtime.jobs.held import Held, Leases
from atelier.runtime.jobs.job import QueueFull, State
from atelier.runtime.jobs.limits import Limits
from atelier.runtime.jobs.rates import Rates, ends, remaining
from atelier.runtime.jobs.rows import AnyRow
from atelier.runtime.jobs.tables import jobs

_SOONEST, _LATEST = 1.0, 600.0
"""Bounds of what a client is told to wait before it asks again, in seconds."""
_UNKNOWN = 10.0
"""The same, before any job was done."""
PLACE = func.coalesce(jobs.c.place, jobs.c.sequence)
"""Of a job in its owner's line."""
_WAITING = select(PLACE.label("place"), jobs.c.id, jobs.c.owner, jobs.c.priority, jobs.c.kind, jobs.c.cost).where(
    jobs.c.state == State.QUEUED
)
_COUNTS = select(func.count(), func.count().filter(jobs.c.owner == bindparam("owner"))).where(
    jobs.c.state == State.QUEUED
)


@dataclass(frozen=True, slots=True)
class Outlook:
    """position: jobs that start before one that waits; expected: seconds until a job ends, None where unknown."""

    position: Mapping[str, int]
    expected: Mapping[str, float | None]


class Queue:
    """Reads the order of the queue from the database; keeps nothing but rates and shares."""

    def __init__(self, limits: Limits, clock: Clock, leases: Leases) -> None:
        self.rates = Rates()
        self.share = FairShare()
        self.workers = 1
        self._limits = limits
        self._clock = clock
        self._leases = leases
        self._entered: dict[str, float] = {}
        self._lock = threading.Lock()

    def entered(self, job_id: str) -> None:
        """The job waits from now on. Time during which no server ran does not count."""
        with self._lock:
            self._entered[job_id] = self._clock.steady()

    def left(self, job_id: str) -> None:
        """The job waits no longer."""
        with self._lock:
            self._entered.pop(job_id, None)

    @property
    def is_empty(self) -> bool:
        """Whether no job waits, as far as this process was told: who is told of one later asks again then."""
        return not self._entered

    def tired(self) -> list[str]:
        """The jobs that have waited longer than the limit."""
        before = self._clock.steady() - self._limits.wait
        with self._lock:
            return [job_id for job_id, entered in self._entered.items() if entered < before]

    def learn(self, connection: Connection, count: int = 50) -> None:
        """Takes the rates from the jobs that were done last."""
        known = jobs.c.seconds.is_not(None)
        query = select(jobs.c.kind, jobs.c.cost, jobs.c.seconds).where(jobs.c.state == State.DONE, known)
        for row in reversed(connection.execute(query.order_by(jobs.c.sequence.desc()).limit(count)).all()):
            self.rates.record(row.kind, row.cost, row.seconds)

    def order(self, connection: Connection, kinds: Collection[str] | None = None) -> list[Waiting]:
        """The jobs that wait, the next one first. kinds: only those."""
        found = connection.execute(_WAITING if kinds is None else _WAITING.where(jobs.c.kind.in_(kinds))).all()
        return self.share.order(map(self._waiting, found))

    def _waiting(self, row: AnyRow) -> Waiting:
        """Shares count cost, not seconds: what is learned between two jobs must not make one count for more."""
        seconds = self.rates.seconds(row.kind, row.cost)
        return Waiting(row.place, row.id, row.owner, row.priority, row.cost, seconds)

    def outlook(self, connection: Connection) -> Outlook:
        """Where all jobs stand."""
        order = self.order(connection)
        left = {held.lease.job_id: self._left(held) for held in self._leases.all()}
        queue = [(job.id, job.seconds) for job in order]
        busy = [seconds or 0.0 for seconds in left.values()]
        later = ends(queue, busy, max(self.workers, len(busy), 1))
        return Outlook({job.id: place for place, job in enumerate(order)}, {**left, **later})

    def check_room(self, connection: Connection, owner: str) -> None:
        """Raises QueueFull."""
        everybody, own = connection.execute(_COUNTS, {"owner": owner}).one()
        if everybody >= self._limits.queue:
            raise QueueFull(f"{everybody} jobs wait, and no more are taken: try again later", self._retry_after())
        if own >= self._limits.queue_per_owner:
            raise QueueFull(f"{own} jobs of yours wait, and no more are taken: try again later", self._retry_after())

    def _retry_after(self) -> float:
        """Seconds until a place will be free: when a running job ends."""
        known = [seconds for held in self._leases.all() if (seconds := self._left(held)) is not None]
        return min(max(min(known, default=_UNKNOWN), _SOONEST), _LATEST)

    def _left(self, held: Held) -> float | None:
        elapsed = self._clock.steady() - held.started
        return remaining(elapsed, held.progress.share, self.rates.seconds(held.kind, held.cost))
