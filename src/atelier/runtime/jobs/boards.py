"""Boards: what owners put images on."""

from __future__ import annotations

import json

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from atelier.errors import BadInput, about
from atelier.runtime.jobs.collection import Board
from atelier.runtime.jobs.job import UnknownJob
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.rows import AnyRow, is_id, new_id, written
from atelier.runtime.jobs.tables import boards, gallery, pinned


class Boards:
    """Methods take the key of an owner, and raise UnknownJob for a board that is another's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def all(self, owner: str) -> tuple[Board, ...]:
        """In the order in which they were made; images in the trash do not count."""
        shown = gallery.c.deleted.is_(None)
        held = select(pinned.c.board, func.count().label("images"), func.max(pinned.c.entry).label("newest"))
        held = held.join(gallery, gallery.c.sequence == pinned.c.entry).where(shown, gallery.c.owner == owner)
        counts = held.group_by(pinned.c.board).subquery()
        query = select(boards, counts.c.images, gallery.c.image.label("cover"))
        query = query.outerjoin(counts, counts.c.board == boards.c.sequence)
        query = query.outerjoin(gallery, gallery.c.sequence == counts.c.newest)
        with self._parts.database.read() as connection:
            rows = connection.execute(query.where(boards.c.owner == owner).order_by(boards.c.sequence)).all()
        return tuple(_board(row, row.images or 0, row.cover) for row in rows)

    def make(self, owner: str, name: str) -> Board:
        """Raises BadInput for a name that the owner has already, or more boards than are kept."""
        limit = self._parts.limits.boards
        with self._parts.database.write() as connection:
            _check_free(connection, owner, name)
            count = connection.scalar(select(func.count()).select_from(boards).where(boards.c.owner == owner)) or 0
            if count >= limit:
                raise BadInput(f"{count} boards are there, and no more are kept: delete one first")
            board_id = new_id()
            values = {"id": board_id, "owner": owner, "name": written(name), "created": self._parts.clock.now()}
            connection.execute(insert(boards).values(values))
            return _board(row_of(connection, board_id, owner))

    def rename(self, owner: str, board_id: str, name: str) -> None:
        """Raises BadInput for the name of another board."""
        with self._parts.database.write() as connection:
            row = row_of(connection, board_id, owner)
            if row.name != written(name):
                _check_free(connection, owner, name)
                connection.execute(update(boards).where(boards.c.sequence == row.sequence).values(name=written(name)))

    def remove(self, owner: str, board_id: str) -> None:
        """Removes a board; its images stay."""
        with self._parts.database.write() as connection:
            row = row_of(connection, board_id, owner)
            connection.execute(delete(boards).where(boards.c.sequence == row.sequence))


def row_of(connection: Connection, board_id: str, owner: str) -> AnyRow:
    """The row of an owner's board. Raises UnknownJob."""
    row = None
    if is_id(board_id):
        row = connection.execute(select(boards).where(boards.c.id == board_id, boards.c.owner == owner)).first()
    if row is None:
        raise UnknownJob(f"{board_id[:80]!r} is no board of yours")
    return row


def _check_free(connection: Connection, owner: str, name: str) -> None:
    if connection.scalar(select(exists().where(boards.c.owner == owner, boards.c.name == written(name)))):
        with about("name"):
            raise BadInput(f"name: there is a board {name!r} already: choose another name")


def _board(row: AnyRow, count: int = 0, cover: str | None = None) -> Board:
    return Board(row.id, str(json.loads(row.name)), row.created, count, cover)
