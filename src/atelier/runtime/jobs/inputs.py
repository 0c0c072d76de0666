"""Uploads: bytes under the name of their hash, each for the owners who sent them alone."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, insert, select, update

from atelier.runtime.jobs.files import UPLOADS
from atelier.runtime.jobs.job import State, StoreFailed, TooLarge, UnknownJob
from atelier.runtime.jobs.limits import LONG
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.rows import AnyRow
from atelier.runtime.jobs.tables import doomed, jobs, needs, shown, uploads

_NAME = re.compile(r"upload:([0-9a-f]{64})")
_HASH = re.compile(r"[0-9a-f]{64}")
STOPPED = [state for state in State if state.ended and state is not State.DONE]
KEPT_SECONDS = 24 * 3600.0
"""How long an upload stays that no job needs and no canvas shows, since it was sent last."""


class Uploads:
    """removing: to be held while an upload is written, and while files that lost their rows are removed."""

    def __init__(self, parts: Parts, removing: threading.RLock) -> None:
        self._parts = parts
        self._removing = removing

    def add(self, data: bytes, owner: str) -> str:
        """Keeps the bytes; returns "upload:SHA256". Raises TooLarge, StoreFailed."""
        limit = self._parts.limits.upload
        if len(data) > limit:
            raise TooLarge(f"an upload of {len(data)} bytes is too large: at most {limit} are taken")
        sha256 = hashlib.sha256(data).hexdigest()
        with self._removing:
            if not self._known(sha256, owner):
                self._make_room(len(data), owner)
                self._parts.files.write(path(sha256), data, "upload")
            self._list(sha256, len(data), owner)
        return f"upload:{sha256}"

    def read(self, name: str, owner: str) -> bytes:
        """The bytes of an upload of the owner's. Raises UnknownJob, StoreFailed."""
        sha256 = hash_of(name)
        with self._parts.database.read() as connection:
            if not connection.scalar(_is(sha256, owner)):
                raise unknown(name)
        data = self._parts.files.read(path(sha256))
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise StoreFailed(
                f"{name}: was damaged or removed: send it again", path=self._parts.files.folder / path(sha256)
            )
        return data

    def link(self, connection: Connection, job_id: str, names: Iterable[str], owner: str) -> None:
        """Notes which uploads a job needs. Raises UnknownJob for one that is not the owner's."""
        for name in dict.fromkeys(names):
            sha256 = hash_of(name)
            check_known(connection, sha256, owner)
            connection.execute(insert(needs).values(job=job_id, owner=owner, sha256=sha256))

    def expire(self, connection: Connection) -> None:
        """Dooms what no job needs, no canvas shows, and is older than a day; a clock set back only delays that. A
        training that was stopped or failed needs its images as long as it can go on."""
        now = self._parts.clock.now()
        stopped = (
            jobs.c.kind.in_(LONG) & jobs.c.state.in_(STOPPED) & (jobs.c.ended >= now - self._parts.limits.run_kept)
        )
        old = _unneeded().where(uploads.c.created < now - KEPT_SECONDS, ~_needed(stopped))
        doom(connection, connection.execute(old).all())

    def unlisted(self, connection: Connection) -> list[str]:
        """Files older than a day that nobody has: a process was killed between a file and its row."""
        listed = set(connection.scalars(select(uploads.c.sha256)))
        files, now = self._parts.files, self._parts.clock.now()
        left = (path(name) for name in files.names(UPLOADS) if _HASH.fullmatch(name) and name not in listed)
        return [name for name in left if files.age(name, now) > KEPT_SECONDS]

    def _known(self, sha256: str, owner: str) -> bool:
        """Whether the owner has it, and the file is there."""
        with self._parts.database.read() as connection:
            listed = connection.scalar(_is(sha256, owner))
        return bool(listed) and self._parts.files.exists(path(sha256))

    def _list(self, sha256: str, size: int, owner: str) -> None:
        with self._parts.database.write() as connection:
            now = self._parts.clock.now()
            if connection.scalar(_is(sha256, owner)):
                sent = update(uploads).where(uploads.c.owner == owner, uploads.c.sha256 == sha256)
                connection.execute(sent.values(created=now))
            else:
                row = {"owner": owner, "sha256": sha256, "bytes": size, "created": now}
                connection.execute(insert(uploads).values(row))

    def _make_room(self, size: int, owner: str) -> None:
        """Dooms the owner's oldest that no job needs. Raises TooLarge where that is not enough."""
        limit = self._parts.limits.uploads
        with self._parts.database.read() as connection:
            total = int(connection.scalar(select(func.sum(uploads.c.bytes)).where(uploads.c.owner == owner)) or 0)
        if total + size > limit:
            with self._parts.database.write() as connection:
                spare = _unneeded().where(uploads.c.owner == owner).order_by(uploads.c.created, uploads.c.sha256)
                chosen = _enough(connection.execute(spare).all(), total + size - limit)
                if sum(row.bytes for row in chosen) < total + size - limit:
                    raise TooLarge(
                        f"the uploads of your waiting jobs and canvases are too much: at most {limit} bytes are kept"
                    )
                doom(connection, chosen)


def _enough(rows: Sequence[AnyRow], over: int) -> list[AnyRow]:
    """The first rows, until that many bytes are found."""
    chosen: list[AnyRow] = []
    for row in rows:
        if over <= 0:
            break
        chosen.append(row)
        over -= row.bytes
    return chosen


def path(sha256: str) -> str:
    """The file of an upload."""
    return f"{UPLOADS}/{sha256}"


def hash_of(name: str) -> str:
    """The hash in "upload:SHA256". Raises UnknownJob for other texts."""
    read = _NAME.fullmatch(name)
    if read is None:
        raise unknown(name)
    return read[1]


def hashes_in(text: str) -> tuple[str, ...]:
    """Of the uploads that are named anywhere in a text, each once."""
    return tuple(dict.fromkeys(_NAME.findall(text)))


def check_known(connection: Connection, sha256: str, owner: str) -> None:
    """Raises UnknownJob for an upload that is not the owner's."""
    if not connection.scalar(_is(sha256, owner)):
        raise unknown(f"upload:{sha256}")


def unknown(name: str) -> UnknownJob:
    """The error for an upload that is not there, or is another's: nobody can tell which."""
    return UnknownJob(f"{name[:80]!r} is no upload of yours: send the image first")


def doom(connection: Connection, rows: Iterable[AnyRow]) -> None:
    """Takes uploads from their owners. Whether others still have the bytes is asked when the file is to go."""
    for row in rows:
        connection.execute(delete(uploads).where(uploads.c.owner == row.owner, uploads.c.sha256 == row.sha256))
        listed = connection.scalar(select(exists().where(doomed.c.path == path(row.sha256))))
        if not listed:
            connection.execute(insert(doomed).values(path=path(row.sha256)))


def _is(sha256: str, owner: str) -> Select[bool]:
    return select(exists().where(uploads.c.owner == owner, uploads.c.sha256 == sha256))


def _needed(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether one of these jobs is about an upload."""
    own = exists().where(needs.c.owner == uploads.c.owner, needs.c.sha256 == uploads.c.sha256)
    return own.where(jobs.c.id == needs.c.job, which)


def _unneeded() -> Select[*tuple[Any, ...]]:
    needed = _needed(jobs.c.state.in_([State.QUEUED, State.RUNNING]))
    seen = exists().where(shown.c.owner == uploads.c.owner, shown.c.sha256 == uploads.c.sha256)
    return select(uploads).where(~needed, ~seen)
