"""The desk with processes that do what they are told: every way in which a job, a worker or the store can end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atelier.api.desk import Desk, Staff
from atelier.api.errors import problem_of
from atelier.errors import AtelierError, BadInput
from atelier.runtime.jobs.clock import SYSTEM, Clock
from atelier.runtime.jobs.faults import NO_FAULTS, Fault, Faults
from atelier.runtime.jobs.job import Job, NewJob, NotReady, Owner, State, StoreFailed, TooLarge, UnknownJob
from atelier.runtime.jobs.lease import Lease
from atelier.runtime.jobs.limits import USUAL
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.workers import post
from atelier.runtime.workers.asking import taken
from atelier.runtime.workers.messages import Message
from atelier.runtime.workers.process import Command
from atelier.runtime.workers.remembered import Remembered
from job_support import FakeClock

ANNA, BEN = Owner("anna", admin=False), Owner("ben", admin=False)
LONG = 600.0
"""Seconds: longer than a busy machine takes for anything."""


def process(role: str) -> Command:
    """A process that does what it is told, which finds modules as this one does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return Command((sys.executable, "-m", "fakes.process", role), environment)


NEVER_READY = Command((sys.executable, "-c", "import time; time.sleep(600)"))


def remembered(folder: Path) -> Remembered:
    return Remembered(folder / "catalogue.json", "1.2.3")


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    fault: str | None = None,
    lease: float = LONG,
    workers: int = 1,
    resolver: Command = process("resolver"),  # noqa: B008
    clock: Clock = SYSTEM,
) -> AsyncIterator[Desk]:
    """lease: in which the server has to hear of a worker; on a busy machine it may not for long."""
    faults = NO_FAULTS if fault is None else Faults(Fault.parsed(fault))
    limits = USUAL if clock is not SYSTEM else replace(USUAL, lease=LONG)
    store = JobStore.open(folder, limits=limits, faults=faults, clock=clock)
    commands = [process("worker")] * workers
    desk = Desk(store, Staff(resolver, commands, grace=0.0, lease=lease), remembered(folder))
    await desk.start()
    try:
        yield desk
    finally:
        await desk.stop()


def with_desk(folder: Path, use: Callable[[Desk], Awaitable[Any]], **how: Any) -> Any:
    async def run() -> Any:
        async with opened(folder, **how) as desk, asyncio.timeout(LONG):
            return await use(desk)

    return asyncio.run(run())


def steps(*names: str, **more: Any) -> NewJob:
    return NewJob("generate", {"do": list(names), **more})


async def done(desk: Desk, *names: str) -> Job:
    return await desk.ended((await desk.submit(steps(*names), ANNA)).id, ANNA)


async def until(desk: Desk, job: Job, name: str) -> None:
    """Until an event of that name has happened."""
    async for event in desk.events(job.id, ANNA):
        if event.name == name:
            return


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "STOPPING", 0.3)
    monkeypatch.setattr("atelier.api.desk.WATCHING", 0.05)


def test_what_a_worker_tells_is_kept_and_told(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        asked = await desk.submit(steps("progress", "warning", "image", "saved", "progress", "done"), ANNA)
        job = await desk.ended(asked.id, ANNA)
        assert (job.state, job.attempt, job.warnings) == (State.DONE, 1, ("note", "look"))
        assert [(image.index, image.seed, image.infotext) for image in job.images] == [(0, 2**64 - 1, "text")]
        image, data = await desk.image(job.images[0].id, ANNA)
        assert (image, data) == (job.images[0], b"a file")
        assert await desk.thumbnail(image.id, ANNA) == b"small"
        events = [event async for event in desk.events(job.id, ANNA)]
        assert [event.name for event in events] == [
            "state",
            "state",
            "progress",
            "warning",
            "image",
            "progress",
            "state",
        ]
        assert [event.number for event in events] == list(range(1, 8))
        assert [event.name async for event in desk.events(job.id, ANNA, after=5)] == ["progress", "state"]
        assert (await desk.memory()).device_total == 3
        for use in (desk.job, desk.cancel, desk.ended, desk.preview):
            with pytest.raises(UnknownJob):
                await use(job.id, BEN)

    with_desk(tmp_path, use)


def test_a_job_that_fails_says_why_and_the_worker_goes_on(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        job = await done(desk, "fail")
        assert job.state is State.FAILED
        assert job.error is not None
        assert (job.error.kind, job.error.message, job.error.exit_code) == ("BadInput", "it cannot be done", 2)
        assert (await done(desk, "done")).state is State.DONE

    with_desk(tmp_path, use)


@pytest.mark.parametrize("how", ["die", "nonsense"])
def test_a_worker_that_dies_or_talks_nonsense_is_replaced(tmp_path: Path, how: str) -> None:
    async def use(desk: Desk) -> None:
        first = await done(desk, "done")
        job = await done(desk, how, "wait")
        assert (job.state, job.attempt) == (State.QUARANTINED, 2)
        after = await done(desk, "done")
        assert after.result != first.result

    with_desk(tmp_path, use)


def test_a_silent_worker_is_killed_and_its_job_put_aside(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        job = await done(desk, "silent")
        assert (job.state, job.attempt) == (State.QUARANTINED, 2)
        desk.posts[0]._lease = LONG
        assert (await done(desk, "done")).state is State.DONE

    with_desk(tmp_path, use, lease=0.5)


def test_a_worker_that_the_store_hears_nothing_of_is_killed_and_its_job_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds pass between two looks."""
    clock, overdue = FakeClock(), JobStore.overdue

    def later(store: JobStore) -> Any:
        clock.advance(10)
        return overdue(store)

    async def use(desk: Desk) -> None:
        with monkeypatch.context() as passing:
            passing.setattr(JobStore, "overdue", later)
            job = await done(desk, "silent")
        assert (job.state, job.attempt) == (State.QUARANTINED, 2)
        assert job.error is not None
        assert job.error.message == "nothing was heard of worker worker-1 for 30 seconds"
        assert (await done(desk, "done")).state is State.DONE

    with_desk(tmp_path, use, clock=clock)


def test_a_server_that_slept_does_not_take_its_worker_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not hear, and hears then what was said meanwhile."""
    heartbeat, heard = JobStore.heartbeat, asyncio.Event()

    async def use(desk: Desk) -> None:
        post, loop = desk.posts[0], asyncio.get_running_loop()

        def sleeping() -> None:
            time.sleep(1.5)
            post._lease = LONG

        def beating(store: JobStore, lease: Lease) -> None:
            heartbeat(store, lease)
            post._lease = 0.2
            monkeypatch.setattr(JobStore, "heartbeat", hearing)
            loop.call_soon(sleeping)

        def hearing(store: JobStore, lease: Lease) -> None:
            heartbeat(store, lease)
            if post._lease == LONG:
                heard.set()

        job = await desk.submit(steps("progress", "wait"), ANNA)
        await until(desk, job, "progress")
        pid = post.pid
        monkeypatch.setattr(JobStore, "heartbeat", beating)
        await heard.wait()
        assert ((await desk.job(job.id, ANNA)).attempt, post.pid) == (1, pid)

    with_desk(tmp_path, use)


@pytest.mark.parametrize("how", ["wait", "deaf"])
def test_cancelling_ends_a_job_also_where_the_worker_does_not_hear(tmp_path: Path, how: str) -> None:
    async def use(desk: Desk) -> None:
        job = await desk.submit(steps("progress", how), ANNA)
        await until(desk, job, "progress")
        waiting = await desk.submit(steps("done"), ANNA)
        assert (await desk.cancel(waiting.id, ANNA)).state is State.CANCELLED
        await desk.cancel(job.id, ANNA)
        assert (await desk.ended(job.id, ANNA)).state is State.CANCELLED
        assert (await done(desk, "done")).state is State.DONE

    with_desk(tmp_path, use)


def test_what_saves_where_it_is_has_longer_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "STOPPING", 0.0)

    async def use(desk: Desk) -> None:
        asked = NewJob("teach", {"do": ["progress", "late"]})
        job = await desk.submit(asked, ANNA)
        await until(desk, job, "progress")
        pid = desk.posts[0].pid
        await desk.cancel(job.id, ANNA)
        assert (await desk.ended(job.id, ANNA)).state is State.CANCELLED
        assert (await desk.ended((await desk.submit(steps("done"), ANNA)).id, ANNA)).result == {"pid": pid}

    with_desk(tmp_path, use)


@pytest.mark.parametrize("how", ["wait", "deaf"])
def test_running_too_long_ends_a_job(tmp_path: Path, how: str) -> None:
    async def use(desk: Desk) -> None:
        asked = NewJob("generate", {"do": ["progress", how]}, timeout=0.3)
        job = await desk.ended((await desk.submit(asked, ANNA)).id, ANNA)
        assert job.state is State.TIMED_OUT
        assert (await done(desk, "done")).state is State.DONE

    with_desk(tmp_path, use)


@pytest.mark.parametrize("fault", ["image.write:1:enospc", "image.fsync:1:eio", "list:1:eio", "update:1:enospc"])
def test_a_disk_that_refuses_fails_the_job_and_nothing_else(tmp_path: Path, fault: str) -> None:
    """D01, D03: the worker is the same afterwards, and nothing is half there."""

    async def use(desk: Desk) -> None:
        job = await done(desk, "image", "wait" if "update" not in fault else "done")
        assert job.state is State.FAILED
        assert job.error is not None
        assert job.error.kind == "StoreFailed"
        assert str(tmp_path) not in job.error.message
        assert job.images == () or "update" in fault
        assert (await done(desk, "image", "done")).state is State.DONE

    with_desk(tmp_path, use, fault=fault)
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]


def test_stopping_gives_a_running_job_back_with_its_attempt(tmp_path: Path) -> None:
    async def use(desk: Desk) -> str:
        job = await desk.submit(steps("saved", "progress", "wait"), ANNA)
        await until(desk, job, "progress")
        waiting = asyncio.create_task(desk.ended(job.id, ANNA))
        await asyncio.sleep(0)
        await desk.stop()
        with pytest.raises(NotReady):
            await waiting
        with pytest.raises(NotReady):
            await desk.submit(steps("done"), ANNA)
        assert not await desk.ready()
        return job.id

    async def run() -> str:
        store = JobStore.open(tmp_path)
        desk = Desk(store, Staff(process("resolver"), [process("worker")], grace=0.0), remembered(tmp_path))
        await desk.start()
        return await use(desk)

    job_id = asyncio.run(run())
    store = JobStore.open(tmp_path)
    job = store.job(job_id, ANNA)
    assert (job.state, job.attempt) == (State.QUEUED, 0)
    claimed = store.claim("worker-1")
    assert claimed is not None
    assert claimed.saved is not None
    assert claimed.saved.data == b"middle"
    store.close()


def test_a_job_that_ends_within_the_grace_is_done(tmp_path: Path) -> None:
    async def run() -> Job:
        staff = Staff(process("resolver"), [process("worker")], grace=LONG)
        desk = Desk(JobStore.open(tmp_path), staff, remembered(tmp_path))
        await desk.start()
        job = await desk.submit(steps("progress", "image", "progress", "done"), ANNA)
        await until(desk, job, "progress")
        await desk.stop()
        return job

    asyncio.run(run())
    store = JobStore.open(tmp_path)
    assert [job.state for job in store.jobs(ANNA)] == [State.DONE]
    store.close()


@pytest.mark.parametrize(
    ("how", "error"),
    [("TooLarge", TooLarge), ("BadInput", BadInput), ("fault", AtelierError), ("die", NotReady), ("silent", NotReady)],
)
def test_what_the_resolver_refuses_is_refused_and_it_is_there_again(
    tmp_path: Path, how: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(desk: Desk) -> None:
        if how == "silent":
            monkeypatch.setattr("atelier.runtime.workers.asking.SETTLING", 0.5)
            desk._asking._answering = 0.5
        with pytest.raises(error) as refused:
            await desk.submit(steps(resolver=how), ANNA)
        assert type(refused.value) is error
        assert await desk.jobs(ANNA) == []
        monkeypatch.setattr("atelier.runtime.workers.asking.SETTLING", LONG)
        assert (await done(desk, "done")).state is State.DONE

    with_desk(tmp_path, use)


@pytest.mark.parametrize("kind", ["settle", "catalogue"])
def test_who_waits_behind_a_long_call_is_refused_and_the_long_one_is_answered(tmp_path: Path, kind: str) -> None:
    """Also behind one whose caller is gone."""

    async def use(desk: Desk) -> None:
        asking, files = desk._asking, [tmp_path / "long", tmp_path / "gone"]
        await asking.call("thumbnail", {})
        asking._answering, resolver = 0.3, asking._child
        calls = ({"what": "generate", "fields": {"until": str(file)}} for file in files)
        long, gone = (asyncio.create_task(asking.call(kind, call)) for call in calls)
        while len(asking._asked) < 2:
            await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(NotReady, match="is busy with other requests"):
            await asking.call("thumbnail", {})
        files[0].touch()
        assert (await long).kind == "answer"
        with pytest.raises(NotReady, match="is busy with other requests"):
            await asking.call("thumbnail", {})
        files[1].touch()
        asking._answering = LONG
        await asking.call("thumbnail", {})
        assert asking._child is resolver

    with_desk(tmp_path, use)


def test_lists_are_those_of_the_last_server_until_the_resolver_has_started(tmp_path: Path) -> None:
    async def names(desk: Desk) -> list[str]:
        return [model.name for model in (await desk.catalogue()).models]

    first = with_desk(tmp_path, names)
    assert first == ["a model"]
    assert with_desk(tmp_path, names, resolver=NEVER_READY) == first
    kept = json.loads((tmp_path / "catalogue.json").read_text())
    kept["listed"]["models"] = []
    (tmp_path / "catalogue.json").write_text(json.dumps(kept))

    async def asked_anew(desk: Desk) -> list[str]:
        await desk.refresh()
        return await names(desk)

    assert with_desk(tmp_path, asked_anew) == first


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b'{"listed": {}}', b'{"release": "0.0.0", "listed": {}}'])
def test_lists_that_were_damaged_or_are_of_another_release_are_not_remembered(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "catalogue.json").write_bytes(kept)
    assert remembered(tmp_path).listed is None
    remembered(tmp_path / "no folder").keep({})


def test_two_workers_do_two_jobs_at_once(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        pair = [await desk.submit(steps("progress", "wait"), ANNA) for _ in range(2)]
        await asyncio.gather(*(until(desk, job, "progress") for job in pair))
        assert {(await desk.job(job.id, ANNA)).state for job in pair} == {State.RUNNING}
        for job in pair:
            await desk.cancel(job.id, ANNA)
        ended = await asyncio.gather(*(desk.ended(job.id, ANNA) for job in pair))
        assert {job.state for job in ended} == {State.CANCELLED}

    with_desk(tmp_path, use, workers=2)


def test_an_idempotency_key_settles_once(tmp_path: Path) -> None:
    """O14."""

    async def use(desk: Desk) -> None:
        asked = NewJob("generate", {"do": ["done"]}, idempotency_key="once")
        jobs = await asyncio.gather(*(desk.submit(asked, ANNA) for _ in range(5)))
        assert len({job.id for job in jobs}) == 1
        await desk.ended(jobs[0].id, ANNA)
        assert (await desk.submit(asked, ANNA)).state is State.DONE
        assert len(await desk.jobs(ANNA)) == 1

    with_desk(tmp_path, use)


def test_a_file_that_is_gone_tells_nobody_where_it_lay(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        image = (await done(desk, "image", "done")).images[0]
        name = await desk.upload(b"bytes", ANNA)
        for file in [*tmp_path.rglob("outputs/*"), *tmp_path.rglob("uploads/*")]:
            file.write_bytes(b"else")
        for ask in (desk.image(image.id, ANNA), desk.submit(steps("done", image=name), ANNA)):
            with pytest.raises(StoreFailed) as failed:
                await ask
            told = problem_of(failed.value)
            assert (told.status, "was damaged or removed" in told.message) == (503, True)
            assert "/" not in told.message
            assert failed.value.path.startswith(str(tmp_path))
        assert await desk.about(image.id, ANNA) == image

    with_desk(tmp_path, use)


def test_the_resolver_tells_the_field() -> None:
    data = {"kind": "UnknownName", "message": "unknown VAE 'x': there is none here", "exit_code": 2}
    for field in ("vae", None):
        said = data if field is None else {**data, "field": field}
        with pytest.raises(BadInput) as refused:
            taken(Message("refused", {"number": 1, "error": said}))
        assert problem_of(refused.value).field == field


def test_uploads_belong_to_who_brought_them(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        name = await desk.upload(b"bytes", ANNA)
        with pytest.raises(UnknownJob):
            await desk.submit(steps("done", image=name), BEN)
        assert (await desk.submit(steps("done", image=name), ANNA)).asked["image"] == name

    with_desk(tmp_path, use)


TEACH = NewJob("teach", {"do": ["learned", "progress", "wait"]})


def test_a_training_tells_how_it_goes_and_goes_on_as_another_job(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        job = await desk.submit(TEACH, ANNA)
        with pytest.raises(BadInput, match="only one that teaches, and was stopped or failed"):
            await desk.resume(job.id, ANNA)
        await until(desk, job, "progress")
        learned = [e.data async for e in first(desk, job, 4) if e.name == "learned"]
        assert learned == [{"points": [[1, 0.5]], "checks": [], "left": 3.0}]
        await desk.cancel(job.id, ANNA)
        assert (await desk.ended(job.id, ANNA)).state is State.CANCELLED
        with pytest.raises(UnknownJob):
            await desk.resume(job.id, BEN)
        with pytest.raises(UnknownJob):
            await desk.course(job.id, BEN)
        assert await desk.course(job.id, ANNA) == {"points": [], "checks": []}
        again = await desk.resume(job.id, ANNA)
        assert (again.kind, again.asked) == ("teach", {**TEACH.fields, "continues": job.id})
        await desk.cancel(again.id, ANNA)
        await desk.ended(again.id, ANNA)
        third = await desk.resume(again.id, ANNA)
        assert third.asked["continues"] == again.id

    with_desk(tmp_path, use)


async def first(desk: Desk, job: Job, count: int) -> AsyncIterator[Any]:
    """The first events of a job that goes on."""
    async for event in desk.events(job.id, ANNA):
        yield event
        count -= 1
        if not count:
            return


def test_only_trainings_go_on(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        failed = await done(desk, "fail")
        with pytest.raises(BadInput, match="only one that teaches"):
            await desk.resume(failed.id, ANNA)
        taught = await desk.ended((await desk.submit(NewJob("teach", {"do": ["done"]}), ANNA)).id, ANNA)
        with pytest.raises(BadInput, match="only one that teaches"):
            await desk.resume(taught.id, ANNA)

    with_desk(tmp_path, use)


@pytest.mark.parametrize("kind", ["teach", "convert", "merge", "generate"])
def test_what_a_job_made_is_listed_at_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(desk: Desk) -> None:
        await desk.refresh()
        asked: list[str] = []
        call = desk._asking.call

        async def counted(what: str, *rest: Any) -> Message:
            asked.append(what)
            return await call(what, *rest)

        monkeypatch.setattr(desk._asking, "call", counted)
        await desk.ended((await desk.submit(NewJob(kind, {"do": ["done"]}), ANNA)).id, ANNA)
        await desk.catalogue()
        assert asked.count("catalogue") == (kind != "generate")

    with_desk(tmp_path, use)


def test_what_the_server_runs_with(tmp_path: Path) -> None:
    async def use(desk: Desk) -> None:
        await done(desk, "image", "done")
        facts = await desk.facts()
        (worker,), (models,) = facts.workers, facts.models
        assert (worker.name, worker.device, worker.ready, worker.busy, worker.device_total) == (
            "worker-1",
            "none",
            True,
            False,
            3,
        )
        assert (models.path, models.there) == ("/nowhere/models", False)
        assert (facts.data.path, facts.data.there, facts.data.writable) == (str(tmp_path), True, True)
        assert facts.data.total >= facts.data.free > 0
        assert facts.database == str(tmp_path / "jobs.sqlite3")
        assert facts.kept["outputs"] == len(b"a file")
        assert facts.kept["database"] > 0
        assert "cost" not in facts.limits, "it has none, which JSON cannot say"
        assert facts.limits["queue"] == USUAL.queue
        assert await desk.weights() == [{"id": "a", "name": "x"}]
        forecast = await desk.forecast({"count": 3})
        assert (forecast["steps"], forecast["seconds"], forecast["measured"]) == (7, 40.0, False)
        await desk.ended((await desk.submit(NewJob("teach", {"do": ["done"]}), ANNA)).id, ANNA)
        assert (await desk.forecast({"count": 3}))["measured"] is True

    with_desk(tmp_path, use)
