"""The life of a job: accepted durably, run under a lease, ended once, whatever dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from atelier.errors import BadInput
from atelier.runtime.jobs import courses
from atelier.runtime.jobs.fairness import Waiting
from atelier.runtime.jobs.held import Held, Leases
from atelier.runtime.jobs.job import JobProgress, NewJob, Owner, State, StoreFailed, UnknownJob
from atelier.runtime.jobs.lease import Lease, LeaseLost, SavedState, Settled
from atelier.runtime.jobs.limits import Limits
from atelier.runtime.jobs.store import JobStore
from job_support import ANNA, BAD_LUCK, BELA, START, FakeClock, Stores, accept, claim, files, new, picture, state


def test_a_job_from_acceptance_to_its_image(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    asked = {"prompt": "ein Käfer \x00 \ud800 😀", "seed": 2**64 - 1, "parts": [1.5, None, True]}
    accepted = store.accept(NewJob("generate", asked), ANNA, Settled({"seeds": [1, 2]}, warnings=("long",)))
    assert accepted.new
    job = accepted.job
    assert (job.state, job.attempt, job.created, job.started, job.position) == (State.QUEUED, 0, START, None, 0)
    clock.advance(2)
    claimed = claim(store)
    assert claimed.job.state is State.RUNNING
    assert (claimed.job.started, claimed.job.attempt, claimed.job.position) == (START + 2, 1, None)
    store.progress(claimed.lease, JobProgress(3, 20, 0, 1, 0.15))
    assert store.job(job.id, ANNA).progress == JobProgress(3, 20, 0, 1, 0.15)
    store.warn(claimed.lease, "flat image")
    store.warn(claimed.lease, "flat image")
    made = store.add_image(claimed.lease, picture(data=b"bytes of a PNG"))
    clock.advance(3)
    done = store.finish(claimed.lease, {"text": "a beetle"})
    assert done == store.job(job.id, ANNA)
    assert (done.state, done.ended, done.images) == (State.DONE, START + 5, (made,))
    assert (done.asked, done.resolved, done.result) == (asked, {"seeds": [1, 2]}, {"text": "a beetle"})
    assert done.warnings == ("long", "flat image")
    assert done.progress == JobProgress(20, 20, 1, 1, 1.0)
    # As sha256sum says.
    assert made.sha256 == "f1dbccd2593408683dcdb9f68bf5ad9743429c1c46d325772c5fb9c53c58fb53"
    assert store.image(made.id, ANNA) == (made, b"bytes of a PNG")
    assert store.thumbnail(made.id, ANNA) == b"small"
    assert (made.index, made.seed, made.width, made.height, made.format) == (0, 7, 64, 48, "png")


def test_everything_is_there_after_a_restart(stores: Stores) -> None:
    store = stores.open()
    waits = accept(store, prompt="second")
    claimed = claim(store)
    made = store.add_image(claimed.lease, picture())
    done = store.finish(claimed.lease)
    waits = accept(store, prompt="third")
    store = stores.open()
    assert store.notices == ()
    assert store.job(done.id, ANNA) == done
    assert store.job(waits.id, ANNA).asked == {"prompt": "third"}
    assert store.image(made.id, ANNA)[1] == picture().data
    assert [job.id for job in store.jobs(ANNA)] == [waits.id, done.id]


def test_an_accepted_job_survives_a_kill(stores: Stores) -> None:
    job = accept(stores.open())
    store = stores.killed()
    assert claim(store).job.id == job.id


def test_another_owner_sees_nothing(stores: Stores) -> None:
    store = stores.open()
    job = accept(store)
    claimed = claim(store)
    made = store.add_image(claimed.lease, picture())
    for ask in (
        lambda owner: store.job(job.id, owner),
        lambda owner: store.cancel(job.id, owner),
        lambda owner: store.delete(job.id, owner),
        lambda owner: store.image(made.id, owner),
        lambda owner: store.thumbnail(made.id, owner),
        lambda owner: store.jobs(owner, before=job.id),
    ):
        with pytest.raises(UnknownJob, match="of yours"):
            ask(BELA)
        with pytest.raises(UnknownJob, match="of yours"):
            ask(Owner("root", admin=True))
    assert store.jobs(BELA) == ()
    assert store.running(BELA) is None
    assert not store.cancelling(claimed.lease)
    assert state(store, job) is State.RUNNING


@pytest.mark.parametrize("name", ["", "0" * 32, "x" * 5000, "\x00", "../../etc/passwd", "\ud800", "' OR 1=1 --"])
def test_unknown_names_are_unknown(stores: Stores, name: str) -> None:
    """C04: never "done", and nothing that a database would choke on."""
    store = stores.open()
    for ask in (store.job, store.cancel, store.delete, store.image, store.thumbnail, store.uploaded):
        with pytest.raises(UnknownJob):
            ask(name, ANNA)
    with pytest.raises(UnknownJob):
        store.jobs(ANNA, before=name)


def test_a_deleted_job_is_unknown(stores: Stores) -> None:
    store = stores.open()
    accept(store)
    claimed = claim(store)
    made = store.add_image(claimed.lease, picture())
    with pytest.raises(BadInput, match="has not ended: cancel it first"):
        store.delete(claimed.job.id, ANNA)
    store.finish(claimed.lease)
    store.delete(claimed.job.id, ANNA)
    for ask in (lambda: store.job(claimed.job.id, ANNA), lambda: store.image(made.id, ANNA)):
        with pytest.raises(UnknownJob):
            ask()
    assert files(stores.folder) == set()


def ways_to_end(store: JobStore) -> dict[State, object]:
    return {
        State.DONE: store.finish,
        State.FAILED: lambda lease: store.fail(lease, BAD_LUCK),
        State.CANCELLED: store.stopped,
    }


@pytest.mark.parametrize("end", [State.DONE, State.FAILED, State.CANCELLED])
def test_a_job_ends_once(stores: Stores, end: State) -> None:
    store = stores.open()
    job = accept(store)
    claimed = claim(store)
    ways = ways_to_end(store)
    ended = ways[end](claimed.lease)
    assert ended.state is end
    for again in (*ways.values(), store.give_back, store.heartbeat, store.cancelling):
        with pytest.raises(LeaseLost):
            again(claimed.lease)
    for late in (
        lambda: store.add_image(claimed.lease, picture()),
        lambda: store.save_state(claimed.lease, SavedState(0, 1, b"")),
        lambda: store.lost(claimed.lease, "killed"),
        lambda: store.warn(claimed.lease, "late"),
        lambda: store.progress(claimed.lease, JobProgress()),
    ):
        with pytest.raises(LeaseLost):
            late()
    assert store.cancel(job.id, ANNA) == ended
    assert store.claim("w") is None
    assert store.overdue() == ()
    assert files(stores.folder) == set()
    assert stores.killed().job(job.id, ANNA) == ended


def test_the_database_has_the_last_word(stores: Stores) -> None:
    """G-J2, whatever the memory of the process says: a row that is another's, or ended, is not changed."""
    store = stores.open()
    job = accept(store)
    for change in ("lease = 'another'", "state = 'failed'"):
        claimed = claim(store)
        with store._parts.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE jobs SET {change}")
        for end in (*ways_to_end(store).values(), store.give_back):
            with pytest.raises(LeaseLost, match="is no longer of w"):
                end(claimed.lease)
        with pytest.raises(LeaseLost, match="is no longer of w"):
            store.add_image(claimed.lease, picture())
        assert files(stores.folder) == set()
        assert state(store, job) is (State.RUNNING if "lease" in change else State.FAILED)
        with store._parts.database.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET lease = NULL, state = 'queued'")
        store._queue.entered(job.id)


def test_no_torch_behind_the_store() -> None:
    code = "import sys, atelier.runtime.jobs.store; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_a_failed_job_says_why(stores: Stores) -> None:
    store = stores.open()
    accept(store)
    assert store.fail(claim(store).lease, BAD_LUCK).error == BAD_LUCK


def test_cancelling_a_job_that_waits(stores: Stores) -> None:
    store = stores.open()
    job = accept(store)
    ended = store.cancel(job.id, ANNA)
    assert (ended.state, ended.ended, ended.position) == (State.CANCELLED, START, None)
    assert store.claim("w") is None


def test_cancelling_a_job_that_runs(stores: Stores) -> None:
    store = stores.open()
    job = accept(store)
    claimed = claim(store)
    assert not store.cancelling(claimed.lease)
    assert store.cancel(job.id, ANNA).state is State.RUNNING
    assert store.cancelling(claimed.lease)
    store.add_image(claimed.lease, picture())
    ended = store.stopped(claimed.lease)
    assert (ended.state, len(ended.images)) == (State.CANCELLED, 1)


@pytest.mark.parametrize("end", ["give_back", "lost", "killed"])
def test_a_cancelled_job_never_starts_again(stores: Stores, end: str) -> None:
    store = stores.open()
    job = accept(store)
    claimed = claim(store)
    store.save_state(claimed.lease, SavedState(0, 3, b"x"))
    store.cancel(job.id, ANNA)
    if end == "give_back":
        store.give_back(claimed.lease)
    elif end == "lost":
        store.lost(claimed.lease, "the worker died")
    else:
        store = stores.killed()
    assert state(store, job) is State.CANCELLED
    assert store.job(job.id, ANNA).ended == START
    assert store.claim("w") is None
    assert files(stores.folder) == set()


def test_a_graceful_stop_does_not_count(stores: Stores) -> None:
    store = stores.open()
    job = accept(store)
    accept(store, prompt="later")
    for _ in range(5):
        claimed = claim(store)
        assert (claimed.job.id, claimed.lease.attempt) == (job.id, 1)
        back = store.give_back(claimed.lease)
        assert (back.state, back.attempt, back.started, back.position) == (State.QUEUED, 0, None, 0)


def test_two_deaths_quarantine_a_job(stores: Stores) -> None:
    """C03: the job that kills workers is tried twice; the others run."""
    store = stores.open()
    poison = accept(store, prompt="poison")
    other = accept(store, prompt="other")
    first = claim(store)
    assert store.lost(first.lease, "signal 11").state is State.QUEUED
    second = claim(store)
    assert (second.job.id, second.lease.attempt) == (poison.id, 2)
    assert second.lease.token != first.lease.token
    ended = store.lost(second.lease, "the worker was killed by signal 11")
    assert (ended.state, ended.attempt) == (State.QUARANTINED, 2)
    assert ended.error is not None
    assert ended.error.message == "the worker was killed by signal 11"
    assert claim(store).job.id == other.id


def test_a_job_that_kills_the_server_is_quarantined(stores: Stores) -> None:
    store = stores.open()
    poison, other = accept(store, prompt="poison"), accept(store, prompt="other")
    claim(store)
    store = stores.killed()
    assert store.notices == (f"1 jobs were running when the last server died: {poison.id}",)
    assert claim(store).lease.attempt == 2
    store = stores.killed()
    ended = store.job(poison.id, ANNA)
    assert ended.state is State.QUARANTINED
    assert ended.error is not None
    assert ended.error.message == "the server died while the job ran, and so did the attempt before"
    assert claim(store).job.id == other.id
    assert stores.open().job(poison.id, ANNA) == ended


def test_a_job_given_back_at_the_end_of_the_server_is_not_counted(stores: Stores) -> None:
    """C05: SIGTERM gives the jobs back and closes."""
    for _ in range(4):
        store = stores.open()
        assert store.notices == ()
        if not store.jobs(ANNA):
            accept(store)
        claimed = claim(store)
        assert claimed.lease.attempt == 1
        store.give_back(claimed.lease)


def test_a_worker_without_heartbeat_loses_its_job(stores: Stores, clock: FakeClock) -> None:
    """C07: a frozen worker; when it goes on, nothing of it counts."""
    store = stores.open(Limits(lease=30))
    job = accept(store)
    frozen = claim(store, "frozen")
    for _ in range(10):
        clock.advance(20)
        store.heartbeat(frozen.lease)
        assert store.overdue() == ()
    clock.advance(20)
    assert store.overdue() == ()
    clock.advance(20)
    (late,) = store.overdue()
    assert (late.job_id, late.worker, late.state) == (job.id, "frozen", State.QUEUED)
    second = claim(store, "other")
    with pytest.raises(LeaseLost, match=r"attempt 1 of frozen is over"):
        store.add_image(frozen.lease, picture(data=b"late"))
    made = store.add_image(second.lease, picture(data=b"in time"))
    with pytest.raises(LeaseLost):
        store.finish(frozen.lease)
    assert store.finish(second.lease).images == (made,)
    assert store.image(made.id, ANNA)[1] == b"in time"
    assert len(files(stores.folder)) == 1


def test_a_lease_that_ends_while_somebody_waits_for_it() -> None:
    """What a thread wanted to write while another one ended the job is not written."""
    leases = Leases(30.0)
    lease = Lease("job", "w", 1, "token")
    leases.give(Held(lease, Waiting(0, "job", "anna", 0, 1.0), "generate", 1.0, START, 0.0, 100.0, 30.0))
    late: list[str] = []

    def write() -> None:
        try:
            with leases.using(lease, 1.0):
                late.append("written")
        except LeaseLost:
            late.append("lost")

    thread = threading.Thread(target=write)
    with leases.using(lease, 0.0) as held:
        thread.start()
        while held.alive_until != 31.0:
            time.sleep(0.001)
        time.sleep(0.05)
        leases.drop(held)
    thread.join()
    assert late == ["lost"]


def test_a_server_that_slept_does_not_take_its_workers_for_dead(stores: Stores, clock: FakeClock) -> None:
    store = stores.open(Limits(lease=30))
    accept(store)
    claimed = claim(store)
    clock.advance(3000)
    assert store.overdue() == ()
    clock.advance(29)
    assert store.overdue() == ()
    clock.advance(2)
    assert [late.job_id for late in store.overdue()] == [claimed.job.id]


def test_a_run_has_a_limit(stores: Stores, clock: FakeClock) -> None:
    """O08. A job's own limit holds where it is the shorter one."""
    store = stores.open(Limits(run=100, lease=1000))
    job, patient, eager = accept(store, timeout=10), accept(store), accept(store, timeout=5000)
    claims = [claim(store, "w1"), claim(store, "w2"), claim(store, "w3")]
    store.save_state(claims[0].lease, SavedState(0, 1, b"x"))
    clock.advance(9)
    assert store.overdue() == ()
    clock.advance(1)
    (late,) = store.overdue()
    assert (late.job_id, late.worker, late.state) == (job.id, "w1", State.TIMED_OUT)
    error = store.job(job.id, ANNA).error
    assert error is not None
    assert error.message == "the job ran longer than 10 seconds"
    with pytest.raises(LeaseLost):
        store.heartbeat(claims[0].lease)
    clock.advance(90)
    assert {late.job_id for late in store.overdue()} == {patient.id, eager.id}
    assert files(stores.folder) == set()


def test_waiting_has_a_limit_that_counts_while_a_server_is_there(stores: Stores, clock: FakeClock) -> None:
    store = stores.open(Limits(wait=60, lease=1000))
    job = accept(store)
    clock.advance(59)
    assert store.overdue() == ()
    stores.close()
    clock.advance(10_000)
    store = stores.open(Limits(wait=60, lease=1000))
    runs = claim(store) if store.jobs(ANNA)[0].state is State.QUEUED else None
    assert runs is not None
    store.give_back(runs.lease)
    clock.advance(60)
    assert store.overdue() == ()
    clock.advance(1)
    (late,) = store.overdue()
    assert (late.job_id, late.worker, late.state) == (job.id, "", State.TIMED_OUT)
    ended = store.job(job.id, ANNA)
    assert ended.error is not None
    assert ended.error.message == "the job waited longer than 60 seconds"
    assert store.overdue() == ()


def test_a_retry_keeps_the_images_that_were_made(stores: Stores) -> None:
    """C14, as far as the store goes: what was resolved is the same, and nothing is listed twice."""
    store = stores.open()
    job = store.accept(new(), ANNA, Settled({"seeds": [123]})).job
    first = claim(store)
    made = store.add_image(first.lease, picture(0, b"first"))
    store = stores.killed()
    second = claim(store)
    assert second.job.images == (made,)
    assert (second.job.id, second.job.resolved) == (job.id, {"seeds": [123]})
    assert store.add_image(second.lease, picture(0, b"again")) == made
    other = store.add_image(second.lease, picture(1, b"second"))
    done = store.finish(second.lease)
    assert done.images == (made, other)
    assert [store.image(image.id, ANNA)[1] for image in done.images] == [b"first", b"second"]
    assert len(files(stores.folder)) == 2


def test_a_retry_restores_a_file_that_is_gone(stores: Stores) -> None:
    store = stores.open()
    accept(store)
    claimed = claim(store)
    made = store.add_image(claimed.lease, picture(0, b"first"))
    (path,) = (stores.folder / "outputs").iterdir()
    path.unlink()
    store.add_image(claimed.lease, picture(0, b"other bytes"))
    assert not path.exists()
    assert store.add_image(claimed.lease, picture(0, b"first")) == made
    assert store.image(made.id, ANNA)[1] == b"first"


def test_the_middle_of_an_image_is_saved(stores: Stores) -> None:
    store = stores.open()
    accept(store)
    claimed = claim(store)
    assert claimed.saved is None
    store.save_state(claimed.lease, SavedState(0, 3, b"three" * 1000))
    store.save_state(claimed.lease, SavedState(1, 7, b"seven\nlines\n"))
    store = stores.killed()
    claimed = claim(store)
    assert claimed.saved == SavedState(1, 7, b"seven\nlines\n")
    store.give_back(claimed.lease)
    claimed = claim(store)
    assert claimed.saved == SavedState(1, 7, b"seven\nlines\n")
    store.finish(claimed.lease)
    assert files(stores.folder) == set()


@pytest.mark.parametrize(
    "damage", [b"", b"{}\n", b"no JSON\nx", b'{"image": 0, "step": 3, "sha256": "00"}\nx', b"\xff\n"]
)
def test_a_damaged_state_is_left_out(sqlite_stores: Stores, damage: bytes) -> None:
    store = sqlite_stores.open()
    job = accept(store)
    claimed = claim(store)
    store.save_state(claimed.lease, SavedState(0, 3, b"three"))
    (sqlite_stores.folder / "states" / job.id).write_bytes(damage)
    assert claim_again(store, claimed).saved is None


@pytest.mark.parametrize("place", [0, 12, 30, -1])
def test_one_flipped_bit_in_a_state_is_noticed(sqlite_stores: Stores, place: int) -> None:
    store = sqlite_stores.open()
    job = accept(store)
    claimed = claim(store)
    store.save_state(claimed.lease, SavedState(0, 3, b"three"))
    path = sqlite_stores.folder / "states" / job.id
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert claim_again(store, claimed).saved is None


def claim_again(store: JobStore, claimed: object) -> object:
    store.give_back(claimed.lease)
    return claim(store)


def test_states_of_jobs_that_ended_are_swept(stores: Stores) -> None:
    store = stores.open()
    job, gone = accept(store), accept(store)
    claimed = claim(store)
    store.save_state(claimed.lease, SavedState(0, 3, b"x"))
    store.cancel(gone.id, ANNA)
    (stores.folder / "states" / gone.id).write_bytes(b"left by a kill")
    stores.killed()
    assert files(stores.folder) == {f"states/{job.id}"}


def test_a_job_is_done_only_if_its_files_are_there(stores: Stores) -> None:
    store = stores.open()
    job = accept(store)
    claimed = claim(store)
    store.add_image(claimed.lease, picture())
    (path,) = (stores.folder / "outputs").iterdir()
    path.unlink()
    with pytest.raises(StoreFailed, match=f"^image {path.name}: was removed before the job was done$"):
        store.finish(claimed.lease)
    assert state(store, job) is State.RUNNING
    assert store.fail(claimed.lease, BAD_LUCK).state is State.FAILED


def test_a_damaged_image_is_not_handed_out(stores: Stores) -> None:
    store = stores.open()
    accept(store)
    claimed = claim(store)
    made = store.add_image(claimed.lease, picture(data=b"0123456789"))
    (path,) = (stores.folder / "outputs").iterdir()
    for damage in (b"012345678", b"0123456780", None):
        path.unlink() if damage is None else path.write_bytes(damage)
        with pytest.raises(StoreFailed, match=f"^image {made.id}: was damaged or removed$") as failed:
            store.image(made.id, ANNA)
        assert failed.value.path == str(path)
        assert store.about(made.id, ANNA) == made
    with pytest.raises(UnknownJob):
        store.about(made.id, BELA)


def test_kinds_and_formats(stores: Stores) -> None:
    store = stores.open()
    train = store.accept(NewJob("train", {}), ANNA).job
    accept(store)
    assert store.claim("w", ["upscale"]) is None
    claimed = store.claim("w", ["upscale", "train"])
    assert claimed is not None
    assert claimed.job.id == train.id
    with pytest.raises(ValueError, match="'exe' is no format of images"):
        store.add_image(claimed.lease, picture().__class__(0, 1, 1, 1, "exe", "", b""))


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (new(priority=1001), "priority: 1001 is out of range: use -1000 to 1000"),
        (new(timeout=0.0), "timeout: 0.0 is no time to run: give seconds above 0"),
        (new(timeout=float("inf")), "timeout: inf is no time to run"),
        (NewJob("generate", {"cfg": float("nan")}), "a field holds what JSON cannot say"),
    ],
)
def test_refused_before_anything_is_written(stores: Stores, job: NewJob, message: str) -> None:
    store = stores.open()
    with pytest.raises(BadInput, match=message):
        store.accept(job, ANNA)
    assert store.jobs(ANNA) == ()


def test_what_runs_or_starts_next(stores: Stores) -> None:
    store = stores.open()
    assert store.running(ANNA) is None
    first, second = accept(store), accept(store, priority=3)
    assert store.running(ANNA) is not None
    assert store.running(ANNA).id == second.id
    claim(store)
    assert store.running(ANNA).id == second.id
    claim(store)
    assert store.running(ANNA).id == second.id, "the one that started first"
    assert first.id != second.id


def test_lists_are_paged(stores: Stores) -> None:
    store = stores.open()
    ids = [accept(store, prompt=str(i)).id for i in range(7)]
    accept(store, BELA)
    assert [job.id for job in store.jobs(ANNA, limit=3)] == ids[:3:-1]
    assert [job.id for job in store.jobs(ANNA, limit=3, before=ids[4])] == ids[3:0:-1]
    assert [job.id for job in store.jobs(ANNA, before=ids[0])] == []


def test_changes_are_told_once_they_are_committed(stores: Stores) -> None:
    store = stores.open()
    job = accept(store)
    claimed = claim(store)
    store.progress(claimed.lease, JobProgress(1, 2))
    store.add_image(claimed.lease, picture())
    store.warn(claimed.lease, "hm")
    store.cancel(job.id, ANNA)
    store.stopped(claimed.lease)
    store.cancel(job.id, ANNA)
    assert stores.changes == [job.id] * 7


def test_counts(stores: Stores) -> None:
    store = stores.open()
    accept(store)
    accept(store)
    claimed = claim(store)
    store.add_image(claimed.lease, picture(data=b"12345"))
    store.upload(b"123", ANNA)
    store.upload(b"123", BELA)
    counts = store.counts()
    assert (counts.states[State.QUEUED], counts.states[State.RUNNING], counts.states[State.DONE]) == (1, 1, 0)
    assert (counts.outputs, counts.uploads) == (5, 3)


def test_the_folder_is_made(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path / "a" / "b")
    store.close()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailed, match=r"cannot be made a folder \(Not a directory\): choose another place"):
        JobStore.open(tmp_path / "file" / "sub")


def teaching() -> NewJob:
    return NewJob("teach", {"word": "zwx"})


def test_jobs_that_take_hours_have_a_limit_of_their_own(stores: Stores, clock: FakeClock) -> None:
    store = stores.open(Limits(run=100, long_run=1000, lease=10_000))
    job = store.accept(teaching(), ANNA, Settled()).job
    claim(store)
    clock.advance(500)
    assert store.overdue() == ()
    clock.advance(600)
    (late,) = store.overdue()
    assert (late.job_id, late.state) == (job.id, State.TIMED_OUT)


def test_jobs_that_take_hours_are_begun_more_often(stores: Stores) -> None:
    """By another worker, and by another server."""
    limits = Limits(attempts=1, long_attempts=3)
    store = stores.open(limits)
    job = store.accept(teaching(), ANNA, Settled()).job
    assert store.lost(claim(store).lease, "it died").state is State.QUEUED
    claim(store)
    store = stores.killed(limits)
    assert state(store, job) is State.QUEUED
    claim(store)
    assert state(stores.killed(limits), job) is State.QUARANTINED


@pytest.mark.parametrize("end", ["finish", "delete", "kill"])
def test_what_a_job_keeps_on_disk_goes_when_it_is_done_and_not_before(end: str, sqlite_stores: Stores) -> None:
    store = sqlite_stores.open()
    job, other = (store.accept(teaching(), ANNA, Settled()).job for _ in range(2))
    own, others = (sqlite_stores.folder / "runs" / one.id for one in (job, other))
    for folder in (own, others):
        folder.mkdir(parents=True)
        (folder / "checkpoint").write_bytes(b"x")
    lease = claim(store).lease
    assert store.give_back(lease).state is State.QUEUED
    assert own.is_dir()
    lease = claim(store).lease
    match end:
        case "finish":
            store.finish(lease, None)
        case "delete":
            store.fail(lease, BAD_LUCK)
            store.delete(job.id, ANNA)
        case _:
            own = sqlite_stores.folder / "runs" / "of-nobody"
            own.mkdir()
            sqlite_stores.killed()
    assert not own.exists()
    assert (others / "checkpoint").read_bytes() == b"x"


@pytest.mark.parametrize("end", ["fail", "cancel", "stop", "die"])
def test_what_a_job_has_on_disk_that_did_not_get_done_is_kept_for_a_day(
    end: str, sqlite_stores: Stores, clock: FakeClock
) -> None:
    """Another job can go on with it; also a server that starts anew keeps it so long, and no longer."""
    limits = Limits(long_attempts=1)
    store = sqlite_stores.open(limits)
    job = store.accept(teaching(), ANNA, Settled()).job
    folder = sqlite_stores.folder / "runs" / job.id
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(b"x")
    lease = claim(store).lease
    match end:
        case "fail":
            store.fail(lease, BAD_LUCK)
        case "cancel":
            store.give_back(lease)
            store.cancel(job.id, ANNA)
        case "stop":
            store.cancel(job.id, ANNA)
            store.stopped(lease)
        case _:
            assert store.lost(lease, "it died").state is State.QUARANTINED
    clock.advance(limits.run_kept - 10)
    store.prune()
    assert folder.is_dir()
    store = sqlite_stores.killed(limits)
    assert folder.is_dir()
    clock.advance(20)
    store.prune()
    assert not folder.exists()


def test_the_oldest_runs_go_once_they_take_too_much(sqlite_stores: Stores, clock: FakeClock) -> None:
    store = sqlite_stores.open(Limits(runs=250))
    folders = []
    for _ in range(3):
        job = store.accept(teaching(), ANNA, Settled()).job
        folders.append(sqlite_stores.folder / "runs" / job.id)
        folders[-1].mkdir(parents=True)
        (folders[-1] / "checkpoint").write_bytes(bytes(100))
        store.fail(claim(store).lease, BAD_LUCK)
        clock.advance(60)
    assert store.kept()["runs"] == 300
    store.prune()
    assert [folder.is_dir() for folder in folders] == [False, True, True]
    assert store.kept()["runs"] == 200


def test_the_course_of_a_training_is_read_from_its_run_and_then_from_its_result(sqlite_stores: Stores) -> None:
    store = sqlite_stores.open()
    job = store.accept(teaching(), ANNA, Settled()).job
    assert store.course(job.id, ANNA) == {"points": [], "checks": []}
    log = sqlite_stores.folder / "runs" / job.id / "run" / "log.jsonl"
    log.parent.mkdir(parents=True)
    rows = [{"step": 1, "loss": 0.5, "norm": 1.0}, {"step": 2, "loss": 0.25}, {"step": 2, "fixed": 0.125, "seconds": 1}]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "lo')
    whole = {"points": [[1, 0.5], [2, 0.25]], "checks": [[2, 0.125]]}
    assert store.course(job.id, ANNA) == whole
    with pytest.raises(UnknownJob):
        store.course(job.id, BELA)
    lease = claim(store).lease
    store.finish(lease, {"course": {"points": [[9, 1.0]], "checks": []}})
    assert store.course(job.id, ANNA) == {"points": [[9, 1.0]], "checks": []}


@pytest.mark.parametrize("text", ["", "[]\n", "null\n", '{"step": NaN}\n', '{"step": 1, "loss": "x"}\n', "\xff\xfe\n"])
def test_a_log_that_is_none_has_no_course(text: str, sqlite_stores: Stores) -> None:
    log = sqlite_stores.folder / "run" / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_bytes(text.encode("latin-1"))
    assert courses.course(sqlite_stores.folder) == {"points": [], "checks": []}


def test_many_points_become_the_means_of_neighbours() -> None:
    points = [(step, float(step % 2)) for step in range(1, 2001)]
    assert courses.thinned(points, 1000) == [(step, 0.5) for step in range(2, 2001, 2)]
    assert courses.thinned(points[:1000], 1000) == points[:1000]
    assert courses.thinned([], 1000) == []
    assert len(courses.thinned(points, 300)) <= 300
