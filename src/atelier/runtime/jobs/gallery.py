"""The images of an owner: found by what they are, starred, put on boards, thrown away and restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, and_, delete, false, func, insert, or_, select, true, update
from sqlalchemy.sql.elements import ColumnElement

from atelier.runtime.jobs import boards as own_boards
from atelier.runtime.jobs.collection import Change, Entry, Found, Wanted, Window
from atelier.runtime.jobs.facts import VERSION, Fact, facts_of
from atelier.runtime.jobs.files import OUTPUTS
from atelier.runtime.jobs.job import JobImage, State, UnknownJob
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.rows import AnyRow, image_of, is_id
from atelier.runtime.jobs.search import Term, parsed
from atelier.runtime.jobs.tables import boards, doomed, facts, gallery, images, jobs, pinned

AT_ONCE = 500
"""Images indexed or removed in one transaction: others wait no longer than that takes."""
_ENDED = [state for state in State if state.ended]
_ENTRY = select(gallery, images).join(images, images.c.id == gallery.c.image)


class Gallery:
    """Methods take the key of an owner, and raise UnknownJob for what is another's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.boards = own_boards.Boards(parts)

    def find(self, owner: str, wanted: Wanted, window: Window) -> Found:
        """Raises UnknownJob for a board or an image to go on from that is not there, BadInput for too long a search.
        What fits is sorted by an index; whole rows are read of those alone that are shown."""
        with self._parts.database.read() as connection:
            fits = self._fits(connection, owner, wanted)
            total = connection.scalar(select(func.count()).select_from(gallery).where(fits)) or 0
            query = select(gallery.c.sequence).where(fits).order_by(gallery.c.sequence.desc())
            if window.before is not None:
                query = query.where(gallery.c.sequence < _row(connection, window.before, owner).sequence)
            shown = connection.scalars(query.offset(window.skip).limit(window.limit)).all()
            rows = connection.execute(_ENTRY.where(gallery.c.sequence.in_(shown))).all()
        return Found(tuple(_entry(row) for row in sorted(rows, key=lambda row: -row.sequence)), total)

    def entry(self, image_id: str, owner: str) -> Entry:
        """One image, with its boards."""
        with self._parts.database.read() as connection:
            row = _row(connection, image_id, owner)
            on = select(boards.c.id).join(pinned, pinned.c.board == boards.c.sequence)
            names = connection.scalars(on.where(pinned.c.entry == row.sequence).order_by(boards.c.sequence)).all()
        return _entry(row, tuple(names))

    def change(self, owner: str, image_ids: Sequence[str], change: Change) -> int:
        """Does the same to at most AT_ONCE images; how many it changed. Ids of nothing and of others do not count."""
        with self._parts.database.write() as connection:
            if change == "purge":
                return _purge(connection, _mine(owner, image_ids) & gallery.c.deleted.is_not(None))
            values, before = _CHANGES[change]
            now = {"deleted": self._parts.clock.now()} if change == "delete" else values
            done = connection.execute(update(gallery).where(_mine(owner, image_ids), before).values(now))
            return done.rowcount

    def put(self, owner: str, board_id: str, image_ids: Sequence[str], *, inside: bool) -> Sequence[str]:
        """Puts images on a board, or takes them off; the ids of those that it concerned."""
        with self._parts.database.write() as connection:
            board = own_boards.row_of(connection, board_id, owner).sequence
            mine = connection.execute(select(gallery.c.sequence, gallery.c.image).where(_mine(owner, image_ids))).all()
            there = pinned.c.board == board, pinned.c.entry.in_([row.sequence for row in mine])
            known = set(connection.scalars(select(pinned.c.entry).where(*there)))
            concerned = [row for row in mine if (row.sequence in known) != inside]
            if not inside:
                connection.execute(delete(pinned).where(*there))
            elif concerned:
                connection.execute(insert(pinned), [{"board": board, "entry": row.sequence} for row in concerned])
            return [row.image for row in concerned]

    def empty_trash(self) -> int:
        """Removes for good what has lain in the trash for so long; the files are doomed. How many images."""
        before = self._parts.clock.now() - self._parts.limits.trash
        with self._parts.database.write() as connection:
            return _purge(connection, gallery.c.deleted < before)

    def index(self) -> int:
        """Reads the facts of some images whose facts were never read, or by an earlier version; how many."""
        old = _ENTRY.where(gallery.c.indexed < VERSION).order_by(gallery.c.sequence.desc()).limit(AT_ONCE)
        with self._parts.database.read() as connection:
            made = {row.sequence: of_image(image_of(row)) for row in connection.execute(old)}
        these = gallery.c.sequence.in_(list(made))
        with self._parts.database.write() as connection:
            there = list(connection.scalars(select(gallery.c.sequence).where(these)))
            connection.execute(delete(facts).where(facts.c.entry.in_(there)))
            _write_facts(connection, {entry: made[entry] for entry in there})
            connection.execute(update(gallery).where(these).values(indexed=VERSION))
        return len(made)

    def _fits(self, connection: Connection, owner: str, wanted: Wanted) -> ColumnElement[bool]:
        """The condition on the rows of `gallery`."""
        trash = gallery.c.deleted.is_not(None) if wanted.deleted else gallery.c.deleted.is_(None)
        conditions = [gallery.c.owner == owner, trash]
        if wanted.starred is not None:
            conditions.append(gallery.c.starred == (true() if wanted.starred else false()))
        if wanted.board is not None:
            board = own_boards.row_of(connection, wanted.board, owner).sequence
            conditions.append(gallery.c.sequence.in_(select(pinned.c.entry).where(pinned.c.board == board)))
        if wanted.job is not None:
            conditions.append(gallery.c.image.in_(select(images.c.id).where(images.c.job == wanted.job)))
        if wanted.q.strip():
            conditions += [_fulfils(term, connection.dialect.name) for term in parsed(wanted.q)]
        return and_(*conditions)


def of_image(image: JobImage) -> tuple[Fact, ...]:
    """What an image is found by: read before a transaction begins, since that takes a moment."""
    return facts_of(image.infotext, image.width, image.height, image.seed)


def enter(connection: Connection, owner: str, image_id: str, found_by: tuple[Fact, ...], now: float) -> None:
    """Lists a new image in the gallery of its owner."""
    row = {"image": image_id, "owner": owner, "made": now, "starred": False, "indexed": VERSION}
    entry = connection.execute(insert(gallery).values(row)).inserted_primary_key
    assert entry is not None
    _write_facts(connection, {entry[0]: found_by})


def _write_facts(connection: Connection, found_by: Mapping[int, tuple[Fact, ...]]) -> None:
    """Writes what images are found by, by their entries."""
    rows = [
        {"entry": entry, "name": fact.name, "value": fact.value, "number": fact.number}
        for entry, own in found_by.items()
        for fact in own
    ]
    if rows:
        connection.execute(insert(facts), rows)


def _fulfils(term: Term, dialect: str) -> ColumnElement[bool]:
    """The condition of a term on the rows of `gallery`."""
    found = select(facts.c.entry).where(facts.c.name == term.name, _compares(term, dialect))
    chosen = gallery.c.sequence.in_(found)
    return ~chosen if term.negated else chosen


def _compares(term: Term, dialect: str) -> ColumnElement[bool]:
    number = facts.c.number
    match term.how:
        case "between" if term.open:
            return and_(number > term.low, number < term.high)
        case "between":
            return number.between(term.low, term.high)
        case "is":
            return or_(number == term.low, and_(number.is_(None), _holds(term.value, dialect)))
        case "holds":
            return _holds(term.value, dialect)


def _holds(value: str, dialect: str) -> ColumnElement[bool]:
    """Whether a fact has that text in it; LIKE would take letters of both cases for the same, and % for anything."""
    return (func.instr if dialect == "sqlite" else func.strpos)(facts.c.value, value) > 0


def _row(connection: Connection, image_id: str, owner: str) -> AnyRow:
    row = None
    if is_id(image_id):
        row = connection.execute(_ENTRY.where(gallery.c.image == image_id, gallery.c.owner == owner)).first()
    if row is None:
        raise UnknownJob(f"{image_id[:80]!r} is no image of yours")
    return row


def _mine(owner: str, image_ids: Sequence[str]) -> ColumnElement[bool]:
    """Those images of the owner's; what can be no id, some databases refuse to hear."""
    return and_(gallery.c.owner == owner, gallery.c.image.in_([image for image in image_ids if is_id(image)]))


def _purge(connection: Connection, which: ColumnElement[bool]) -> int:
    """Removes the rows of some images whose jobs have ended, and dooms their files: a job that goes on would make them
    again."""
    chosen = select(images.c.id, images.c.file).join(gallery, gallery.c.image == images.c.id)
    chosen = chosen.join(jobs, jobs.c.id == images.c.job).where(which, jobs.c.state.in_(_ENDED))
    rows = connection.execute(chosen.limit(AT_ONCE)).all()
    if rows:
        connection.execute(insert(doomed), [{"path": f"{OUTPUTS}/{row.file}"} for row in rows])
        connection.execute(delete(images).where(images.c.id.in_([row.id for row in rows])))
    return len(rows)


def _entry(row: AnyRow, on: tuple[str, ...] = ()) -> Entry:
    return Entry(image_of(row), row.job, row.made, row.starred, row.deleted, on)


_CHANGES: Mapping[Change, tuple[Mapping[str, object], ColumnElement[bool]]] = {
    "star": ({"starred": True}, gallery.c.starred == false()),
    "unstar": ({"starred": False}, gallery.c.starred == true()),
    "delete": ({}, gallery.c.deleted.is_(None)),
    "restore": ({"deleted": None}, gallery.c.deleted.is_not(None)),
}
"""What a change writes, and which images it concerns."""
