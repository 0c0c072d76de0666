"""Canvases: what owners paint on, a JSON document each, with the uploads that it shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, delete, func, insert, select, update

from atelier.errors import BadInput, about
from atelier.request.events import Json
from atelier.runtime.jobs import inputs
from atelier.runtime.jobs.job import TooLarge, UnknownJob
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.rows import AnyRow, written
from atelier.runtime.jobs.tables import canvases, shown

NAME_LENGTH = 200
"""Characters of a canvas's name in lists."""
NEW = 0
"""The revision of a canvas that is not there yet."""


@dataclass(frozen=True, slots=True)
class CanvasEntry:
    """A canvas in a list. name: what its document says under "name", "" where it says nothing; revision: counts its
    changes; created, changed: seconds since 1970."""

    id: str
    name: str
    revision: int
    created: float
    changed: float


@dataclass(frozen=True, slots=True)
class Canvas:
    """A canvas with its document."""

    entry: CanvasEntry
    document: Mapping[str, Json]


class Changed(BadInput):
    """The canvas is no longer the one that was read. HTTP: 412."""


class Canvases:
    """Methods take the key of an owner, and raise UnknownJob for a canvas that is not there or is another's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def all(self, owner: str) -> tuple[CanvasEntry, ...]:
        """The one that was changed last comes first."""
        with self._parts.database.read() as connection:
            query = select(canvases).where(canvases.c.owner == owner)
            rows = connection.execute(query.order_by(canvases.c.changed.desc(), canvases.c.id)).all()
        return tuple(map(_entry, rows))

    def read(self, canvas_id: str, owner: str) -> Canvas:
        with self._parts.database.read() as connection:
            row = _row(connection, canvas_id, owner)
        if row is None:
            raise _unknown(canvas_id)
        return Canvas(_entry(row), cast("dict[str, Json]", json.loads(row.document)))

    def put(self, canvas_id: str, owner: str, document: Mapping[str, Json], expected: int | None = None) -> CanvasEntry:
        """Keeps a document, in place of the one that there is. Uploads that it names, anywhere in it, are kept as long
        as it is. expected: the revision that is replaced, NEW for none, None for any.

        Raises Changed where another is there, TooLarge, BadInput for one canvas too many, UnknownJob for an upload that
        is not the owner's.
        """
        text = written(document)
        if len(text) > self._parts.limits.canvas:
            raise TooLarge(f"a canvas of {len(text)} bytes is too large: at most {self._parts.limits.canvas} are kept")
        with self._parts.database.write() as connection:
            row = _row(connection, canvas_id, owner)
            _check(row, expected)
            if row is None:
                self._check_room(connection, owner)
            _replace(connection, row, {"owner": owner, "id": canvas_id}, self._values(row, document, text))
            _link(connection, canvas_id, owner, text)
            kept = _row(connection, canvas_id, owner)
        assert kept is not None
        return _entry(kept)

    def delete(self, canvas_id: str, owner: str) -> None:
        """Its uploads go like others that nothing needs."""
        with self._parts.database.write() as connection:
            if _row(connection, canvas_id, owner) is None:
                raise _unknown(canvas_id)
            connection.execute(delete(canvases).where(canvases.c.owner == owner, canvases.c.id == canvas_id))

    def _values(self, row: AnyRow | None, document: Mapping[str, Json], text: str) -> dict[str, Any]:
        name, now = document.get("name"), self._parts.clock.now()
        return {
            "name": written(name[:NAME_LENGTH] if isinstance(name, str) else ""),
            "revision": NEW + 1 if row is None else row.revision + 1,
            "document": text,
            "created": now if row is None else row.created,
            "changed": now,
        }

    def _check_room(self, connection: Connection, owner: str) -> None:
        count = connection.scalar(select(func.count()).select_from(canvases).where(canvases.c.owner == owner)) or 0
        if count >= self._parts.limits.canvases:
            raise BadInput(f"{count} canvases are there, and no more are kept: delete one first")


def _check(row: AnyRow | None, expected: int | None) -> None:
    there = NEW if row is None else row.revision
    if expected is not None and expected != there:
        with about("If-Match"):
            raise Changed(f"the canvas was changed elsewhere: it is at revision {there}, read it again")


def _replace(connection: Connection, row: AnyRow | None, key: Mapping[str, str], values: Mapping[str, Any]) -> None:
    if row is None:
        connection.execute(insert(canvases).values({**key, **values}))
        return
    own = (canvases.c.owner == key["owner"]) & (canvases.c.id == key["id"])
    connection.execute(update(canvases).where(own).values(dict(values)))


def _link(connection: Connection, canvas_id: str, owner: str, text: str) -> None:
    """Notes which uploads a canvas shows. Raises UnknownJob for one that is not the owner's."""
    connection.execute(delete(shown).where(shown.c.owner == owner, shown.c.canvas == canvas_id))
    for sha256 in inputs.hashes_in(text):
        inputs.check_known(connection, sha256, owner)
        connection.execute(insert(shown).values(owner=owner, canvas=canvas_id, sha256=sha256))


def _row(connection: Connection, canvas_id: str, owner: str) -> AnyRow | None:
    return connection.execute(select(canvases).where(canvases.c.owner == owner, canvases.c.id == canvas_id)).first()


def _entry(row: AnyRow) -> CanvasEntry:
    return CanvasEntry(row.id, str(json.loads(row.name)), row.revision, row.created, row.changed)


def _unknown(canvas_id: str) -> UnknownJob:
    return UnknownJob(f"{canvas_id[:80]!r} is no canvas of yours")
