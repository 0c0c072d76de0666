"""Any sequence of operations against a model of the promises: a dictionary of what should be."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from atelier.runtime.jobs import database
from atelier.runtime.jobs.job import JobProgress, QueueFull, State
from atelier.runtime.jobs.lease import Lease, LeaseLost, SavedState, Settled
from atelier.runtime.jobs.limits import Limits
from job_support import ANNA, BAD_LUCK, BELA, FakeClock, Stores, files, new, picture

LIMITS = Limits(queue=5, queue_per_owner=3, attempts=2, lease=30, run=100, wait=200)


@dataclass
class Expected:
    """What should be known of a job."""

    owner: str
    state: State = State.QUEUED
    attempt: int = 0
    lease: Lease | None = None
    images: dict[int, bytes] = field(default_factory=dict)
    cancelling: bool = False
    saved: int | None = None
    beat: float = 0.0
    started: float = 0.0
    waits_since: float = 0.0


class Life(RuleBasedStateMachine):
    """Operations in any order; after each, all jobs are as the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-jobs-"))
        self.clock = FakeClock()
        self.stores = Stores(self.folder / "data", None, self.clock)
        self.store = self.stores.open(LIMITS)
        self.jobs: dict[str, Expected] = {}
        self.void: list[Lease] = []
        self.watched = self.clock.ticks

    def teardown(self) -> None:
        self.stores.bury()
        shutil.rmtree(self.folder)

    def running(self) -> list[str]:
        return [job_id for job_id, job in self.jobs.items() if job.lease is not None]

    def pick(self, number: int) -> tuple[str, Expected]:
        job_id = self.running()[number % len(self.running())]
        self.jobs[job_id].beat = self.clock.ticks
        return job_id, self.jobs[job_id]

    def end(self, job_id: str, state: State) -> None:
        job = self.jobs[job_id]
        if job.lease is not None:
            self.void.append(job.lease)
        job.state, job.lease, job.saved = state, None, None

    def requeue(self, job_id: str, *, counted: bool) -> None:
        job = self.jobs[job_id]
        if job.cancelling:
            self.end(job_id, State.CANCELLED)
        elif counted and job.attempt >= LIMITS.attempts:
            self.end(job_id, State.QUARANTINED)
        else:
            if job.lease is not None:
                self.void.append(job.lease)
            job.state, job.lease, job.waits_since = State.QUEUED, None, self.clock.ticks
            job.attempt -= not counted

    @rule(owner=st.sampled_from([ANNA, BELA]))
    def accept(self, owner: object) -> None:
        waiting = [job.owner for job in self.jobs.values() if job.state is State.QUEUED]
        full = len(waiting) >= LIMITS.queue or waiting.count(owner.key) >= LIMITS.queue_per_owner
        try:
            job = self.store.accept(new(), owner, Settled()).job
        except QueueFull:
            assert full
        else:
            assert not full
            self.jobs[job.id] = Expected(owner.key, waits_since=self.clock.ticks)

    @rule()
    def claim(self) -> None:
        waiting = [job_id for job_id, job in self.jobs.items() if job.state is State.QUEUED]
        claimed = self.store.claim("w")
        if claimed is None:
            assert waiting == []
            return
        job = self.jobs[claimed.job.id]
        assert claimed.job.id in waiting
        job.attempt += 1
        assert claimed.lease.attempt == job.attempt
        assert (None if claimed.saved is None else claimed.saved.step) == job.saved
        job.state, job.lease, job.beat, job.started = State.RUNNING, claimed.lease, self.clock.ticks, self.clock.ticks

    @precondition(running)
    @rule(number=st.integers(0, 5), index=st.integers(0, 2), data=st.binary(max_size=30))
    def add_image(self, number: int, index: int, data: bytes) -> None:
        _, job = self.pick(number)
        self.store.add_image(job.lease, picture(index, data))
        job.images.setdefault(index, data)

    @precondition(running)
    @rule(number=st.integers(0, 5), step=st.integers(1, 9))
    def save_state(self, number: int, step: int) -> None:
        _, job = self.pick(number)
        self.store.save_state(job.lease, SavedState(0, step, bytes(step)))
        job.saved = step

    @precondition(running)
    @rule(number=st.integers(0, 5), way=st.sampled_from(["finish", "fail", "stopped", "give_back", "lost", "progress"]))
    def report(self, number: int, way: str) -> None:
        job_id, job = self.pick(number)
        if way == "finish":
            self.store.finish(job.lease)
            self.end(job_id, State.DONE)
        elif way == "fail":
            self.store.fail(job.lease, BAD_LUCK)
            self.end(job_id, State.FAILED)
        elif way == "stopped":
            self.store.stopped(job.lease)
            self.end(job_id, State.CANCELLED)
        elif way == "progress":
            self.store.progress(job.lease, JobProgress(1, 2))
        else:
            self.store.give_back(job.lease) if way == "give_back" else self.store.lost(job.lease, "died")
            self.requeue(job_id, counted=way == "lost")

    @precondition(lambda self: self.void)
    @rule(number=st.integers(0, 99), way=st.sampled_from(["finish", "stopped", "give_back", "heartbeat"]))
    def too_late(self, number: int, way: str) -> None:
        with pytest.raises(LeaseLost):
            getattr(self.store, way)(self.void[number % len(self.void)])

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        job_id = list(self.jobs)[number % len(self.jobs)]
        job = self.jobs[job_id]
        self.store.cancel(job_id, ANNA if job.owner == "anna" else BELA)
        if job.state is State.QUEUED:
            self.end(job_id, State.CANCELLED)
        elif job.state is State.RUNNING:
            job.cancelling = True

    @rule(seconds=st.sampled_from([1.0, 12.0, 25.0, 29.0]), jump=st.sampled_from([0, -90_000, 90_000]))
    def time_passes(self, seconds: float, jump: float) -> None:
        self.clock.advance(seconds)
        self.clock.time += jump
        late = {overdue.job_id for overdue in self.store.overdue()}
        now, expected = self.clock.ticks, set()
        for job_id, job in self.jobs.items():
            if (job.state is State.QUEUED and now - job.waits_since > LIMITS.wait) or (
                job.state is State.RUNNING and now - job.started >= LIMITS.run
            ):
                expected.add(job_id)
                self.end(job_id, State.TIMED_OUT)
            elif job.state is State.RUNNING and now - job.beat >= LIMITS.lease:
                expected.add(job_id)
                self.requeue(job_id, counted=True)
        assert late == expected

    @rule(killed=st.booleans())
    def restart(self, *, killed: bool) -> None:
        for job_id in self.running():
            if not killed:
                self.store.give_back(self.jobs[job_id].lease)
            self.requeue(job_id, counted=killed)
        for job in self.jobs.values():
            job.waits_since = self.clock.ticks
        self.store = self.stores.killed(LIMITS) if killed else self.stores.open(LIMITS)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        there: set[str] = set()
        for owner in (ANNA, BELA):
            found = {job.id: job for job in self.store.jobs(owner)}
            assert set(found) == {job_id for job_id, job in self.jobs.items() if job.owner == owner.key}
            for job_id, job in found.items():
                expected = self.jobs[job_id]
                assert (job.state, job.attempt) == (expected.state, expected.attempt)
                assert (job.position is not None) == (job.state is State.QUEUED)
                assert (job.ended is not None) == job.state.ended
                assert job.created <= (job.started or job.created) <= (job.ended or job.started or job.created)
                assert [image.index for image in job.images] == sorted(expected.images)
                for image in job.images:
                    assert self.store.image(image.id, owner)[1] == expected.images[image.index]
                    there.add(f"outputs/{job_id}-{image.index:05d}.png")
                if expected.saved is not None:
                    there.add(f"states/{job_id}")
        assert files(self.stores.folder) == there


def test_any_sequence_of_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")
    from hypothesis.stateful import run_state_machine_as_test

    chosen = settings(max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Life, settings=chosen)
