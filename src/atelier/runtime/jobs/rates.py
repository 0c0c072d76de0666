"""How long jobs take, learned from those that were done."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Mapping, Sequence

NEW_WEIGHT = 0.3
"""Of the newest measurement in the running mean: the last few jobs decide, one odd job does not."""


class Rates:
    """Seconds for a unit of cost, for each kind of job: a running mean over the jobs that were done."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}
        self._lock = threading.Lock()

    def record(self, kind: str, cost: float, seconds: float) -> None:
        """A job of that cost took that long."""
        if cost <= 0:
            return
        with self._lock:
            before = self._rates.get(kind, seconds / cost)
            self._rates[kind] = before + NEW_WEIGHT * (seconds / cost - before)

    def seconds(self, kind: str, cost: float) -> float | None:
        """How long a job will take, None before one of its kind was done."""
        with self._lock:
            rate = self._rates.get(kind)
        return None if rate is None else rate * cost


def remaining(elapsed: float, share: float, usual: float | None) -> float | None:
    """Seconds until a running job ends: by its own speed once some of it is done, else by what is usual."""
    if share >= 0.05:
        return elapsed * (1 - share) / share
    return None if usual is None else max(usual - elapsed, 0.0)


def ends(queue: Sequence[tuple[str, float | None]], busy: Iterable[float], workers: int) -> Mapping[str, float | None]:
    """Seconds until each job of the queue ends. queue: ids and seconds of work, in the order of starting; busy: seconds
    until each running job ends. A job of unknown length counts as nothing for those behind it."""
    free = sorted(busy)
    free += [0.0] * (workers - len(free))
    heapq.heapify(free)
    found: dict[str, float | None] = {}
    for job_id, work in queue:
        start = heapq.heappop(free)
        found[job_id] = None if work is None else start + work
        heapq.heappush(free, start + (work or 0.0))
    return found
