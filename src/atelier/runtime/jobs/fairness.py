"""Whose turn it is: by priority, then by the time that each owner has had, then by order of acceptance."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits. sequence: counts acceptances, less where a job was moved to the front of its owner's; work: its
    cost, in the unit of all jobs; seconds: how long it will probably run, None where that is not known."""

    sequence: int
    id: str
    owner: str
    priority: int
    work: float
    seconds: float | None = None


class FairShare:
    """Start-time fair queueing (Goyal, Vin, Cheng 1996): each owner has a clock that counts the work that was begun for
    it, and the owner with the earliest clock is next. The clock of an owner who comes back starts at the present, so
    that nobody saves up turns, and what others had queued before does not matter.

    It knows no time of day. It lives in memory: after a restart all owners are equal.
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._present = 0.0
        self._lock = threading.Lock()

    def order(self, waiting: Iterable[Waiting]) -> list[Waiting]:
        """The jobs as they would start if no others came."""
        with self._lock:
            served, present = dict(self._served), self._present
        queues = _queues(waiting)
        ordered: list[Waiting] = []
        while queues:
            job = min((q[0] for q in queues.values()), key=lambda j: _rank(j, served.get(j.owner, 0.0), present))
            present = _begin(job, served, present)
            ordered.append(job)
            queues[job.owner].popleft()
            if not queues[job.owner]:
                del queues[job.owner]
        return ordered

    def started(self, job: Waiting) -> None:
        """The job was begun, and counts for its owner from now on."""
        with self._lock:
            self._present = _begin(job, self._served, self._present)
            self._served = {owner: at for owner, at in self._served.items() if at > self._present or owner == job.owner}

    def given_back(self, job: Waiting) -> None:
        """The job will be begun again: what was counted for it is taken back."""
        with self._lock:
            if job.owner in self._served:
                self._served[job.owner] = max(self._served[job.owner] - job.work, self._present)


def _queues(waiting: Iterable[Waiting]) -> dict[str, deque[Waiting]]:
    queues: dict[str, deque[Waiting]] = {}
    for job in sorted(waiting, key=lambda j: (-j.priority, j.sequence)):
        queues.setdefault(job.owner, deque()).append(job)
    return queues


def _rank(job: Waiting, served: float, present: float) -> tuple[int, float, int]:
    return -job.priority, max(served, present), job.sequence


def _begin(job: Waiting, served: dict[str, float], present: float) -> float:
    """Counts the job for its owner; returns the new present: the owner's clock at its start."""
    start = max(served.get(job.owner, 0.0), present)
    served[job.owner] = start + job.work
    return start
