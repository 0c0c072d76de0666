"""The database: SQLite in a file that survives power failures, or PostgreSQL; whole transactions or nothing."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from atelier.errors import BadInput
from atelier.runtime.jobs.faults import NO_FAULTS, Faults
from atelier.runtime.jobs.job import FolderInUse, StoreFailed

NAME = "jobs.sqlite3"
WHAT = "the database of jobs"
"""What clients hear it called."""
_BUSY_MILLISECONDS = 5000
"""Longer than any transaction of ours: another program, a backup say, holds the file."""
_POOL, _MORE = 8, 56
"""Connections kept, and opened at need: one for each thread that a web server may use, and then some."""
SYNCHRONOUS = "FULL"
"""Each commit is synced, and survives a power failure; tests that are not about that need not wait for the disk."""
_LOCK_NUMBER = 0x61746C72
"""PostgreSQL's advisory lock of this program: the letters "atlr"."""
PATIENCE, BETWEEN = 5.0, 0.1
"""Seconds that the lock is waited for, and between tries: PostgreSQL needs a moment to see that a server was killed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the database is. file: of SQLite, None for PostgreSQL. said: the URL without its password."""

    url: URL
    file: Path | None

    @property
    def said(self) -> str:
        return str(self.file) if self.file else self.url.render_as_string(hide_password=True)


def place(folder: Path, url: str | None) -> Place:
    """Reads a URL; None is a file in the folder. Raises BadInput for other databases than the two."""
    if url is None:
        return _sqlite(folder / NAME)
    try:
        read = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise BadInput("the URL of the database cannot be read: write sqlite:///FILE or postgresql://...") from error
    backend = read.get_backend_name()
    if backend == "sqlite" and read.database:
        return _sqlite(Path(read.database).absolute())
    if backend in {"postgresql", "postgres"}:
        return Place(read.set(drivername="postgresql+psycopg"), None)
    raise BadInput(f"{read.drivername}: jobs are kept in sqlite:///FILE or postgresql://..., nothing else")


def _sqlite(file: Path) -> Place:
    return Place(URL.create("sqlite", database=str(file)), file)


class Database:
    """Transactions that read, which see one moment, and transactions that write, one after the other."""

    def __init__(self, where: Place, faults: Faults = NO_FAULTS) -> None:
        self.place = where
        self._engine = _engine(where)
        self._writing = self._engine.execution_options(writes=True)
        self._lock = threading.RLock()
        self._faults = faults
        self._guard: Connection | None = None

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Raises StoreFailed where the database refuses."""
        with refusals(self.place), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Commits at the end of the block, durably, or changes nothing. Raises StoreFailed."""
        with self._lock, refusals(self.place):
            with self._writing.begin() as connection:
                self._faults.at("begin")
                yield connection
                self._faults.at("commit")
            self._faults.at("committed", may_fail=False)

    def take(self) -> None:
        """Holds the database of a PostgreSQL server for this process alone. Raises FolderInUse."""
        if self.place.file is not None:
            return
        with refusals(self.place):
            self._guard = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            is_taken = _locked(self._guard)
        if not is_taken:
            raise FolderInUse(
                f"{self.place.said}: another server keeps its jobs here: stop it, or take another database"
            )

    def close(self) -> None:
        """Closes all connections; SQLite puts its journal into the file."""
        if self._guard is not None:
            self._guard.close()
        self._engine.dispose()


def _locked(guard: Connection) -> bool:
    """Whether this connection has the lock now, or within PATIENCE."""
    until = time.monotonic() + PATIENCE
    while not guard.scalar(text("SELECT pg_try_advisory_lock(:number)"), {"number": _LOCK_NUMBER}):
        if time.monotonic() >= until:
            return False
        time.sleep(BETWEEN)
    return True


@contextmanager
def refusals(where: Place) -> Generator[None]:
    """Turns what databases and disks raise into one line about the place. Python's driver raises UnicodeDecodeError for
    the names of a damaged schema."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreFailed(f"{WHAT}: {_reason(error)}", path=where.said, full=_is_full(error)) from error
    except UnicodeDecodeError as error:
        raise StoreFailed(f"{WHAT}: holds text that was damaged", path=where.said) from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StoreFailed(f"{WHAT}: {error.strerror or error}", path=where.said, full=full) from error


def _reason(error: SQLAlchemyError) -> str:
    """The first line of what the driver says, without the statement and its parameters."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _is_full(error: SQLAlchemyError) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        return sqlite_code(cause) == sqlite3.SQLITE_FULL
    return getattr(cause, "sqlstate", None) == "53100"


def sqlite_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 where the driver made the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _engine(where: Place) -> Engine:
    if where.file is None:
        return create_engine(
            where.url,
            pool_pre_ping=True,
            pool_size=_POOL,
            max_overflow=_MORE,
            isolation_level="REPEATABLE READ",
        )
    engine = create_engine(
        where.url, pool_size=_POOL, max_overflow=_MORE, connect_args={"timeout": _BUSY_MILLISECONDS / 1000}
    )
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    """WAL lets readers go on beside the writer."""
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None
    connection.text_factory = readable
    for pragma in (
        f"busy_timeout = {_BUSY_MILLISECONDS}",
        "journal_mode = WAL",
        f"synchronous = {SYNCHRONOUS}",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def readable(text: bytes) -> str:
    """A text of the database, also where its bytes were damaged: who reads a job notices by its digest."""
    return text.decode("utf-8", "replace")


def _on_begin(connection: Connection) -> None:
    """Python's driver would begin at the first change only. Who will write waits at the beginning, where it is safe."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
