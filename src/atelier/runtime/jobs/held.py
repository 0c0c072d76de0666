"""Which worker does what at the moment. In memory: a lease never outlives the server that gave it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from atelier.runtime.jobs.fairness import Waiting
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.jobs.lease import Lease, LeaseLost


@dataclass(slots=True)
class Held:
    """A job that runs. Times are of the steady clock. busy: held while something of the job is written, so that a lease
    never becomes void between a file and its row; void: what came of it is no longer wanted. since: the time of day at
    which it started; cancelling: its owner wants it stopped; listed: the images that have rows."""

    lease: Lease
    waiting: Waiting
    kind: str
    cost: float
    since: float
    started: float
    run_until: float
    alive_until: float
    progress: JobProgress = field(default_factory=JobProgress)
    busy: threading.RLock = field(default_factory=threading.RLock)
    void: bool = False
    cancelling: bool = False
    listed: set[int] = field(default_factory=set[int])


class Leases:
    """The leases that are valid, by token."""

    def __init__(self, term: float) -> None:
        self._term = term
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()

    def give(self, held: Held) -> None:
        with self._lock:
            self._held[held.lease.token] = held

    def all(self) -> list[Held]:
        """In the order in which they were given."""
        with self._lock:
            return list(self._held.values())

    def of(self, job_id: str) -> Held | None:
        return next((h for h in self.all() if h.lease.job_id == job_id), None)

    def beat(self, lease: Lease, now: float) -> Held:
        """The worker lives. Raises LeaseLost."""
        with self._lock:
            held = self._held.get(lease.token)
            if held is None:
                raise LeaseLost(f"job {lease.job_id}: attempt {lease.attempt} of {lease.worker} is over")
            held.alive_until = now + self._term
            return held

    @contextmanager
    def using(self, lease: Lease, now: float) -> Generator[Held]:
        """Within the block the lease stays valid. Raises LeaseLost."""
        held = self.beat(lease, now)
        with held.busy:
            if held.void:
                raise LeaseLost(f"job {lease.job_id}: attempt {lease.attempt} of {lease.worker} is over")
            yield held

    def drop(self, held: Held) -> None:
        """The lease is void from now on. To be called with `busy` held."""
        held.void = True
        with self._lock:
            self._held.pop(held.lease.token, None)

    def renew(self, now: float) -> None:
        """All workers get a new term."""
        with self._lock:
            for held in self._held.values():
                held.alive_until = now + self._term
