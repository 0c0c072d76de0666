"""How much the store of jobs takes, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes.

    queue, queue_per_owner: jobs that wait. cost: of one job, in the unit that the caller counts in. attempts: how
    often a job is begun before the death of its worker ends it; long_attempts, long_run: of the kinds in LONG, which go
    on where they were. lease: without a heartbeat for that long, a worker counts as dead. run, wait: how long a job may
    run, and wait while a server is there. run_kept, runs: how long, and of how many bytes together, what jobs of LONG
    kinds have on disk stays where they were stopped or failed, so that another job can go on with it. idempotency: how
    long a key gives the same job. upload: of one file; uploads: of all uploads of an owner. outputs, history: of all
    images of jobs that ended, and how many such jobs, before the oldest are removed. trash: how long a deleted image
    can be restored. boards: of one owner. canvas: of the document of one; canvases: of one owner.
    """

    queue: int = 256
    queue_per_owner: int = 32
    cost: float = float("inf")
    attempts: int = 2
    long_attempts: int = 20
    lease: float = 30.0
    run: float = 3600.0
    long_run: float = 7 * 24 * 3600.0
    wait: float = 24 * 3600.0
    run_kept: float = 24 * 3600.0
    runs: int = 20 * 1024 * MIB
    idempotency: float = 24 * 3600.0
    upload: int = 64 * MIB
    uploads: int = 1024 * MIB
    outputs: int = 20 * 1024 * MIB
    history: int = 10_000
    canvas: int = MIB
    canvases: int = 100
    trash: float = 7 * 24 * 3600.0
    boards: int = 200

    def attempts_of(self, kind: str) -> int:
        return self.long_attempts if kind in LONG else self.attempts

    def run_of(self, kind: str) -> float:
        return self.long_run if kind in LONG else self.run


LONG = frozenset({"teach"})
"""Kinds of jobs that take hours."""
USUAL = Limits()
