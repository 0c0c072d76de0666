"""Whatever fails or dies, at whichever point: nothing is half-visible, nothing there twice, nothing lost."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atelier.errors import BadInput
from atelier.runtime.jobs import database
from atelier.runtime.jobs.faults import ANY, Fault, Faults
from atelier.runtime.jobs.job import Job, State, StoreFailed
from atelier.runtime.jobs.lease import SavedState, Settled
from atelier.runtime.jobs.store import JobStore
from job_support import ANNA, FakeClock, Stores, accept, claim, files, new, picture

POINTS = {
    "begin", "commit", "upload.open", "upload.write", "upload.fsync", "upload.rename", "state.open",
    "state.write", "state.fsync", "state.rename", "image.open", "image.write", "image.fsync", "image.rename", "list",
    "update",
}  # fmt: skip
KILL_POINTS = POINTS | {"accept", "claim", "finish", "committed", "upload.renamed", "state.renamed", "image.renamed"}


def a_day(store: JobStore) -> None:
    """Something of everything: an upload, a job, a state, two images, an end."""
    name = store.upload(b"input", ANNA)
    store.accept(new("first", idempotency_key="first"), ANNA, Settled({"seed": 5}, uploads=(name,)))
    while (claimed := store.claim("w")) is not None:
        store.save_state(claimed.lease, SavedState(0, 1, b"middle"))
        for index in range(2):
            store.add_image(claimed.lease, picture(index, image_of(claimed.job, index)))
        store.finish(claimed.lease)


def image_of(job: Job, index: int) -> bytes:
    """What a job generates: the same whenever it is run."""
    return f"{job.asked['prompt']} {job.resolved} {index}".encode() * 50


def check_whole(stores: Stores, store: JobStore) -> None:
    """The invariants of the store, at any time: what is listed is there and intact; nothing else lies around."""
    listed: set[str] = set()
    for job in store.jobs(ANNA):
        assert len({image.index for image in job.images}) == len(job.images)
        for image in job.images:
            assert store.image(image.id, ANNA)[1] == image_of(job, image.index)
            listed.add(f"outputs/{job.id}-{image.index:05d}.png")
        if job.state is State.DONE:
            assert [image.index for image in job.images] == [0, 1]
    there = files(stores.folder)
    assert {name for name in there if name.startswith("outputs/")} == listed
    assert not [name for name in there if ".tmp-" in name]


def check_healthy(stores: Stores, store: JobStore) -> None:
    """What was begun can be brought to its end, and is what an undisturbed day makes."""
    a_day(store)
    check_whole(stores, store)
    (job,) = store.jobs(ANNA)
    assert (job.asked, job.state) == ({"prompt": "first"}, State.DONE)
    assert len(files(stores.folder)) == 2 + 1


def test_all_points_are_passed(stores: Stores) -> None:
    for action, points in (("kill", KILL_POINTS), ("eio", POINTS)):
        faults = Faults(Fault("nowhere", 1, action))
        store = stores.open(faults=faults)
        a_day(store) if action == "kill" else again(store)
        assert set(faults.passed) == points


def again(store: JobStore) -> None:
    """The same day under other keys."""
    store.upload(b"other input", ANNA)
    job = store.accept(new("third"), ANNA, Settled({"seed": 5})).job
    claimed = claim(store)
    store.save_state(claimed.lease, SavedState(0, 1, b"middle"))
    store.add_image(claimed.lease, picture(0, image_of(job, 0)))
    store.finish(claimed.lease)


@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_each_point_fails_once(stores: Stores, action: str) -> None:
    """D01, D03: the n-th passage of any point fails, n = 1, 2, … until none does. Each failure is typed, leaves nothing
    behind, and the same store goes on."""
    failures = 0
    for passage in range(1, 200):
        faults = Faults(Fault(ANY, passage, action))
        shutil.rmtree(stores.folder, ignore_errors=True)
        store = fresh(stores, faults)
        failed = failure_of(store)
        if failed is None:
            break
        failures += 1
        assert failed.full == (action == "enospc"), str(failed)
        check_whole(stores, store)
        requeue_running(store)
        check_healthy(stores, store)
    assert failures == passage - 1 > 15


def failure_of(store: JobStore) -> StoreFailed | None:
    """A day, and the one error that it may raise: in one line."""
    try:
        a_day(store)
    except StoreFailed as failed:
        assert "\n" not in str(failed)  # noqa: PT017
        return failed
    return None


def fresh(stores: Stores, faults: Faults) -> JobStore:
    """An empty store, whose opening passed its own points."""
    store = stores.open() if stores.url is None else emptied(stores)
    for part in (store._parts.files, store._parts.database, store._requests, store._work):
        part._faults = faults
    return store


def emptied(stores: Stores) -> JobStore:
    store = stores.store or stores.open()
    for job in store.jobs(ANNA):
        store.delete(job.id, ANNA)
    with store._parts.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM uploads")
    for name in files(stores.folder):
        (stores.folder / name).unlink()
    for name in ("outputs", "states", "uploads"):
        (stores.folder / name).mkdir(parents=True, exist_ok=True)
    return store


def requeue_running(store: JobStore) -> None:
    """What the server does with a worker whose report could not be kept."""
    for held in store._leases.all():
        store.give_back(held.lease)


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/types.h>

static long left = -1;
static int code = 0;
static int seen = 0;
void arm(long n, int error) { left = n; code = error; seen = 0; }
int happened(void) { return seen; }

static char path[512];
static char failed[600];
const char *what(void) { return failed; }

static int ours(int fd) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return strstr(path, "/atelier-shim/") != NULL;
}
static int due(int wanted, const char *name) {
    if (left < 0 || !wanted) return 0;
    if (--left > 0 || seen) return 0;
    seen = 1;
    snprintf(failed, sizeof failed, "%s %s", name, path);
    errno = code;
    return 1;
}
#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
ssize_t write(int fd, const void *b, size_t n) { REAL(write); return due(ours(fd), __func__) ? -1 : real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) {
    REAL(pwrite); return due(ours(fd), __func__) ? -1 : real(fd, b, n, o);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) {
    REAL(pwrite64); return due(ours(fd), __func__) ? -1 : real(fd, b, n, o);
}
int fsync(int fd) { REAL(fsync); return due(ours(fd), __func__) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return due(ours(fd), __func__) ? -1 : real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); return due(ours(fd), __func__) ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); return due(ours(fd), __func__) ? -1 : real(fd, n); }
int rename(const char *a, const char *b) {
    REAL(rename);
    snprintf(path, sizeof path, "%s", b);
    return due(strstr(b, "/atelier-shim/") != NULL, __func__) ? -1 : real(a, b);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler for the library that lets system calls fail (Debian: apt-get install gcc)")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    made = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, folder / "shim.c", "-ldl"], check=True)
    return made


@pytest.mark.parametrize(("code", "stride"), [(errno.ENOSPC, 1), (errno.EIO, 3)], ids=["enospc", "eio"])
def test_each_system_call_fails_once(shim: Path, tmp_path: Path, code: int, stride: int) -> None:
    """D01, D03 for real: the n-th write, fsync, ftruncate or rename of the process fails, SQLite's own among them. The
    second error takes the same ways: each third one."""
    folder = tmp_path / "atelier-shim"
    folder.mkdir()
    environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, str(shim), str(folder), str(code), str(stride)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    failures, full, swallowed = json.loads(done.stdout)
    assert failures > 25 // stride
    folders = re.compile(rf"fdatasync {re.escape(str(folder))}/\d+")
    left = [call for call in swallowed if not folders.fullmatch(call)]
    assert left == [], "SQLite lets folders be that cannot be synced, and nothing else"
    assert full == 0 if code == errno.EIO else full > 10, "SQLite tells a write that found no space from a sync"


def each_system_call(shim: str, folder: Path, code: int, stride: int) -> None:
    """Runs in a process of its own. Prints how many calls made the store fail, for how many of them it said that the
    disk is full, and which failed without a word."""
    library = ctypes.CDLL(shim)
    library.what.restype = ctypes.c_char_p
    full: list[bool] = []
    swallowed: list[str] = []
    Stores(folder / "new", None, FakeClock()).open().close()
    for number in range(1, 500, stride):
        stores = Stores(folder / str(number), None, FakeClock())
        shutil.copytree(folder / "new", stores.folder)
        store = stores.open()
        library.arm(number, code)
        failed = failure_of(store)
        happened = library.happened()
        library.arm(-1, 0)
        if failed is not None:
            full.append(failed.full)
        elif happened:
            swallowed.append(library.what().decode())
        else:
            break
        check_whole(stores, store)
        requeue_running(store)
        check_healthy(stores, store)
        check_whole(stores, stores.killed())
        stores.bury()
        shutil.rmtree(stores.folder)
    print(json.dumps([len(full), sum(full), swallowed]))


KILLED = """
import sys
from pathlib import Path
from job_support import FakeClock
from test_jobs_faults import a_day, requeue_running
from atelier.runtime.jobs.faults import Fault, Faults
from atelier.runtime.jobs.store import JobStore
faults = Faults(Fault.parsed(sys.argv[3]))
store = JobStore.open(Path(sys.argv[1]), sys.argv[2] or None, clock=FakeClock(), faults=faults)
a_day(store)
store.close()
"""


def test_kill_at_each_point(tmp_path: Path) -> None:
    """C01, as far as the store goes: after a kill -9 and a restart, every accepted job ends once, with the files of an
    undisturbed run, nothing is there twice and no temporary file is left."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, "kill", str(tmp_path)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(done.stdout.split()) == KILL_POINTS


def each_kill(folder: Path) -> None:
    """Runs in a process of its own, which has no threads and forks the process that is killed. Prints the points."""
    os.fsync = lambda _: None
    database.SYNCHRONOUS = "OFF"
    Stores(folder / "new", None, FakeClock()).open().close()
    for point in sorted(KILL_POINTS):
        stores = Stores(folder / point, None, FakeClock())
        shutil.copytree(folder / "new", stores.folder)
        killed = os.fork()
        if not killed:
            try:
                faults = Faults(Fault(point, 1, "kill"))
                a_day(JobStore.open(stores.folder, clock=stores.clock, faults=faults))
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == -9, point
        check_after_kill(stores)
        stores.bury()
        print(point)


@pytest.mark.parametrize("passage", [9, 21])
def test_kill_anywhere(stores: Stores, passage: int) -> None:
    stores.open()
    killed_at(stores, f"*:{passage}:kill")


def killed_at(stores: Stores, fault: str) -> None:
    stores.close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(stores.folder), stores.url or "", fault]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr[-2000:]
    check_after_kill(stores)


def check_after_kill(stores: Stores) -> None:
    store = stores.open()
    check_whole(stores, store)
    before = {job.id: job for job in store.jobs(ANNA)}
    assert all(job.state in {State.QUEUED, State.DONE} for job in before.values())
    check_healthy(stores, store)
    after = {job.id: job for job in store.jobs(ANNA)}
    assert set(before) <= set(after)
    for job_id, job in before.items():
        assert after[job_id].images[: len(job.images)] == job.images


@pytest.mark.parametrize("text", ["", "image", "image:1", "image:x:kill", "image:1:burn", "image::kill"])
def test_faults_that_cannot_be_read(text: str) -> None:
    with pytest.raises(BadInput, match="write POINT:N:kill, POINT:N:enospc or POINT:N:eio"):
        Fault.parsed(text)


def test_a_fault_happens_once() -> None:
    assert Fault.parsed("image.write:2:eio") == Fault("image.write", 2, "eio")
    faults = Faults(Fault("a", 2, "enospc"))
    faults.at("a")
    faults.at("b")
    faults.at("b")
    with pytest.raises(OSError, match="No space left on device"):
        faults.at("a")
    faults.at("a")


def test_a_full_database_is_said_to_be_full(sqlite_stores: Stores) -> None:
    """D01: SQLite itself refuses to grow; what was accepted before stays, and a job can be removed to make room."""
    store = sqlite_stores.open()
    first = accept(store)
    pages = "PRAGMA max_page_count = {}"
    with store._parts.database.read() as connection:
        used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    store._parts.database._engine.dispose()
    from sqlalchemy import event

    limit = used + 3

    def limited(connection: object, _record: object) -> None:
        connection.execute(pages.format(limit))

    event.listen(store._parts.database._engine, "connect", limited)

    def fill() -> None:
        for number in range(50):
            accept(store, prompt=f"{number}" * 1000)

    with pytest.raises(StoreFailed, match="database or disk is full") as refused:
        fill()
    assert refused.value.full
    assert store.job(first.id, ANNA) == first
    kept = store.jobs(ANNA)
    limit = 0
    store._parts.database._engine.dispose()
    event.remove(store._parts.database._engine, "connect", limited)
    assert [job.id for job in sqlite_stores.killed().jobs(ANNA)] == [job.id for job in kept]


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        each_kill(Path(sys.argv[2]))
    else:
        each_system_call(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
