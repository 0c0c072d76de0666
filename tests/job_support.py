"""Stores of jobs for tests: a clock that tests set, a PostgreSQL of their own, short ways to make jobs and images."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from atelier.runtime.jobs.faults import NO_FAULTS, Faults
from atelier.runtime.jobs.job import Job, JobError, NewJob, Owner, State
from atelier.runtime.jobs.lease import Claimed, MadeImage, Settled
from atelier.runtime.jobs.limits import USUAL, Limits
from atelier.runtime.jobs.store import JobStore

ANNA, BELA = Owner("anna", admin=False), Owner("bela", admin=False)
START = 1_800_000_000.0
"""What the clock of the tests shows at first: in January 2027."""
BAD_LUCK = JobError("NotFinite", "step 3: the latent is not finite", 3)


@dataclass
class FakeClock:
    """time: of day; ticks: of the clock that never jumps."""

    time: float = START
    ticks: float = 1000.0

    def now(self) -> float:
        return self.time

    def steady(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.ticks += seconds


@dataclass
class Stores:
    """Opens stores in one folder, one after the other."""

    folder: Path
    url: str | None
    clock: FakeClock
    changes: list[str] = field(default_factory=list)
    store: JobStore | None = None
    dead: list[JobStore] = field(default_factory=list)

    def open(self, limits: Limits = USUAL, faults: Faults = NO_FAULTS) -> JobStore:
        self.close()
        self.store = JobStore.open(
            self.folder, self.url, limits=limits, clock=self.clock, changed=self.changes.append, faults=faults
        )
        return self.store

    def killed(self, limits: Limits = USUAL) -> JobStore:
        """The store as the next server finds it: nothing was closed or given back, only the locks are gone."""
        assert self.store is not None
        if self.url is None:
            self.dead.append(self.store)
        else:
            self.store._parts.database.close()
        os.close(self.store._lock._file)
        self.store = None
        return self.open(limits)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def bury(self) -> None:
        """Closes everything."""
        self.close()
        while self.dead:
            self.dead.pop()._parts.database.close()


def new(prompt: str = "a cat", **more: object) -> NewJob:
    return NewJob("generate", {"prompt": prompt}, **more)  # pyright: ignore[reportArgumentType]


def accept(store: JobStore, owner: Owner = ANNA, prompt: str = "a cat", *, cost: float = 1.0, **more: object) -> Job:
    return store.accept(new(prompt, **more), owner, Settled(cost=cost)).job


def claim(store: JobStore, worker: str = "w") -> Claimed:
    claimed = store.claim(worker)
    assert claimed is not None
    return claimed


def picture(index: int = 0, data: bytes = b"\x89PNG of a cat", thumbnail: bytes | None = b"small") -> MadeImage:
    return MadeImage(index, 7 + index, 64, 48, "png", f"a cat\nSteps: 2, Seed: {7 + index}", data, thumbnail)


def state(store: JobStore, job: Job) -> State:
    return store.job(job.id, Owner(job.owner)).state


def files(folder: Path) -> set[str]:
    """All files below the folder that are not the database's or the lock."""
    kept = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    names = {str(path.relative_to(folder)) for path in kept}
    return {name for name in names if not name.startswith(("jobs.sqlite3", "server.lock"))}


class Postgres:
    """A server of its own in a folder, reached through a socket there alone."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.url = f"postgresql://{self._user}@/postgres?host={folder}"

    @staticmethod
    def installed() -> Path | None:
        """The folder of the programs of the newest version."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parents[1].name))
        return found[-1].parent if found else None

    def start(self) -> None:
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self._user)
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
        data = str(self._folder / "data")
        self._run("initdb", "-D", data, "-U", self._user, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        settings = (
            f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c fsync=off -c shared_buffers=16MB"
        )
        self._run("pg_ctl", "-D", data, "-w", "-l", str(self._folder / "log"), "-o", settings, "start")

    def restart(self) -> None:
        """All connections are cut."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", "fast", "restart")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")

    def empty(self) -> None:
        """Removes all tables, and whatever an earlier test left connected."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.execute(f"{others} AND backend_type = 'client backend'".encode())
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def _run(self, program: str, *words: str) -> None:
        user = self._user if os.geteuid() == 0 else None
        command = [str(self._programs / program), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd=self._folder)
