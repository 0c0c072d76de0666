"""From a folder to a database of the newest schema: examined, set aside where it is damaged, migrated."""

from __future__ import annotations

import itertools
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from atelier.errors import BadFile
from atelier.runtime.jobs.database import Database, Place, readable, refusals, sqlite_code
from atelier.runtime.jobs.faults import Faults
from atelier.runtime.jobs.job import StoreFailed

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, 0}
"""Result codes that speak of the content; others (full, locked, read-only) are no reason to set a file aside. 0 is an
error of Python's driver: text that is no UTF-8."""
PATIENCE = 5.0
"""Seconds to wait for another program that holds the file."""
_COMPANIONS = ("", "-wal", "-shm")


def opened(where: Place, faults: Faults) -> tuple[Database, list[str]]:
    """The database, migrated, and one line for each thing that the operator must know.

    A damaged SQLite file is set aside under another name, with its journal, and a new one begun. Raises StoreFailed
    where the database cannot be used, BadFile where it is from a newer version.
    """
    notices: list[str] = []
    if where.file is not None:
        problem = _examined(where.file)
        if problem:
            notices.append(_set_aside(where.file, problem))
    try:
        return _migrated(where, faults), notices
    except StoreFailed as error:
        if where.file is None or not _is_damage(error):
            raise
        notices.append(_set_aside(where.file, str(error.__cause__).splitlines()[0]))
        return _migrated(where, faults), notices


def migrations() -> Config:
    """Alembic's settings: where the scripts are."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _examined(file: Path) -> str | None:
    """What is wrong with the file, in one line. Raises StoreFailed where it cannot be examined."""
    if not file.exists():
        return None
    try:
        if _cut(file):
            return "it was cut off"
        with closing(sqlite3.connect(file, timeout=PATIENCE)) as connection:
            connection.text_factory = readable
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
            found += [f"{row[0]}: a row without its {row[2]}" for row in connection.execute("PRAGMA foreign_key_check")]
    except OSError as error:
        raise StoreFailed(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError:
        return "its names are no UTF-8"
    except sqlite3.Error as error:
        if sqlite_code(error) in _DAMAGE:
            return str(error)
        raise StoreFailed(f"{file}: {error}", full=sqlite_code(error) == sqlite3.SQLITE_FULL) from error
    return None if found == ["ok"] else " ".join(found[0].split())


def _cut(file: Path) -> bool:
    """Whether the file ends within a page, which SQLite would read as if nothing were missing; a journal makes the
    file whole. The page size is in bytes 16 and 17 (sqlite.org/fileformat2.html, 1.3)."""
    size = file.stat().st_size
    if not size or file.with_name(f"{file.name}-wal").exists():
        return False
    with file.open("rb") as opened_file:
        head = opened_file.read(100)
    page = int.from_bytes(head[16:18], "big")
    return len(head) < 100 or size % (page if page > 1 else 65536) != 0


def _set_aside(file: Path, problem: str) -> str:
    """Renames the file and its journal; returns the line that says so."""
    aside = next(p for n in itertools.count(1) if not (p := file.with_name(f"{file.name}.damaged-{n}")).exists())
    try:
        for suffix in _COMPANIONS:
            beside = file.with_name(file.name + suffix)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise StoreFailed(f"{file}: is damaged ({problem}) and cannot be renamed ({error.strerror})") from error
    return (
        f"THE DATABASE OF JOBS WAS DAMAGED ({problem}). It was kept as {aside}, and a new one begun: jobs that waited "
        "are lost, images are untouched"
    )


def _is_damage(error: StoreFailed) -> bool:
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError):
        return True
    driver = getattr(cause, "orig", None)
    return isinstance(driver, sqlite3.Error) and sqlite_code(driver) in _DAMAGE


def _migrated(where: Place, faults: Faults) -> Database:
    database = Database(where, faults)
    try:
        database.take()
        _migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: Database) -> None:
    """Runs what is missing, in one transaction; an SQLite file is copied before."""
    config = migrations()
    script = ScriptDirectory.from_config(config)
    with database.read() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is not None and current not in {s.revision for s in script.walk_revisions()}:
        raise BadFile(
            database.place.said, f"was written by a newer Atelier (schema {current}): use that one, or another folder"
        )
    if current is not None and database.place.file is not None:
        _copied(database.place, current)
    with database.write() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreFailed(f"{database.place.said}: cannot be brought up to date: {error}") from error


def _copied(where: Place, revision: str) -> None:
    assert where.file is not None
    copy = where.file.with_name(f"{where.file.name}.schema-{revision}")
    temporary = where.file.with_name(f".tmp-{uuid.uuid4().hex}")
    with refusals(where):
        try:
            with closing(sqlite3.connect(where.file)) as source, closing(sqlite3.connect(temporary)) as target:
                source.backup(target)
            temporary.replace(copy)
        except sqlite3.Error as error:
            raise StoreFailed(f"{copy}: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)
