"""Jobs that ended, and their files: read, removed by their owner or because there are too many."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, case, delete, exists, func, insert, or_, select, true

from atelier.errors import BadInput
from atelier.runtime.jobs import inputs, saved
from atelier.runtime.jobs.files import OUTPUTS, UPLOADS
from atelier.runtime.jobs.gallery import Gallery
from atelier.runtime.jobs.job import JobImage, State, StoreFailed, UnknownJob
from atelier.runtime.jobs.lease import Counts
from atelier.runtime.jobs.parts import Parts
from atelier.runtime.jobs.rows import AnyRow, image_of, is_id, owned
from atelier.runtime.jobs.tables import doomed, gallery, images, jobs, keys, pinned, thumbnails, uploads

ENDED = [state for state in State if state.ended]
_KEPT = or_(gallery.c.starred == true(), exists().where(pinned.c.entry == gallery.c.sequence))
_COLLECTED = case(
    (
        exists()
        .where(images.c.job == jobs.c.id, gallery.c.image == images.c.id, gallery.c.deleted.is_(None), _KEPT)
        .correlate(jobs),
        1,
    ),
    else_=0,
)
"""Jobs with an image that has a star or lies on a board go last, when there is nothing else to remove."""
_AT_ONCE = 200
"""Jobs removed in one transaction: others wait no longer than that takes."""


class History:
    """removing: held while files that lost their rows are removed."""

    def __init__(self, parts: Parts, own: inputs.Uploads, own_gallery: Gallery, removing: threading.RLock) -> None:
        self._parts = parts
        self._gallery = own_gallery
        self._uploads = own
        self._removing = removing

    def about(self, image_id: str, owner: str) -> JobImage:
        """What its row says of an image. Raises UnknownJob."""
        with self._parts.database.read() as connection:
            return image_of(_row(connection, image_id, owner))

    def image(self, image_id: str, owner: str) -> tuple[JobImage, bytes]:
        """An image and its file. Raises UnknownJob, StoreFailed."""
        with self._parts.database.read() as connection:
            row = _row(connection, image_id, owner)
        name = f"{OUTPUTS}/{row.file}"
        data = self._parts.files.read(name)
        if data is None or hashlib.sha256(data).hexdigest() != row.sha256:
            raise StoreFailed(f"image {row.id}: was damaged or removed", path=self._parts.files.folder / name)
        return image_of(row), data

    def thumbnail(self, image_id: str, owner: str) -> bytes | None:
        """The small image, None where there is none. Raises UnknownJob."""
        with self._parts.database.read() as connection:
            row = _row(connection, image_id, owner)
            return connection.scalar(select(thumbnails.c.data).where(thumbnails.c.image == row.id))

    def delete(self, job_id: str, owner: str) -> None:
        """Removes a job that ended, with its files. Raises UnknownJob, BadInput."""
        with self._parts.database.write() as connection:
            if not State(owned(connection, job_id, owner).state).ended:
                raise BadInput(f"job {job_id} has not ended: cancel it first")
            self._doom(connection, [job_id])
        saved.forget(self._parts.files, job_id)
        self.remove_doomed()

    def prune(self) -> int:
        """Removes what is over the limits, oldest first; returns the bytes that were freed."""
        before = self.counts()
        while self._prune_some() or self._gallery.empty_trash():
            pass
        with self._parts.database.write() as connection:
            self._uploads.expire(connection)
            old = self._parts.clock.now() - self._parts.limits.idempotency
            connection.execute(delete(keys).where(keys.c.created < old))
        self.remove_doomed()
        self.expire_runs()
        after = self.counts()
        return max(before.outputs + before.uploads - after.outputs - after.uploads, 0)

    def expire_runs(self) -> None:
        """Removes what jobs that ended keep of their runs, once it is old or too much, or nothing knows of the job."""
        limits, now = self._parts.limits, self._parts.clock.now()
        names = saved.runs(self._parts.files)
        if not names:
            return
        with self._parts.database.read() as connection:
            found = connection.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(names))).all()
        for unknown in names - {row.id for row in found}:
            saved.forget(self._parts.files, unknown)
        alive = {row.id for row in found if not State(row.state).ended}
        saved.expire(self._parts.files, alive, now - limits.run_kept, limits.runs)

    def counts(self) -> Counts:
        """What there is."""
        with self._parts.database.read() as connection:
            states = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
            made = connection.scalar(select(func.sum(images.c.bytes))) or 0
            once = select(uploads.c.sha256, func.max(uploads.c.bytes).label("bytes")).group_by(uploads.c.sha256)
            sent = connection.scalar(select(func.sum(once.subquery().c.bytes))) or 0
        found = {State(state): count for state, count in states}
        return Counts({state: found.get(state, 0) for state in State}, int(made), int(sent))

    def remove_doomed(self) -> None:
        """Removes the files that lost their rows; those that the disk does not give up are tried again next time."""
        with self._removing:
            with self._parts.database.read() as connection:
                paths = list(connection.scalars(select(doomed.c.path)))
            gone = [path for path in paths if self._removed(path)]
            if gone:
                with self._parts.database.write() as connection:
                    connection.execute(delete(doomed).where(doomed.c.path.in_(gone)))

    def remove_unlisted(self, job_ids: Collection[str]) -> None:
        """Removes files of jobs that were being written when the process was killed, and uploads without a row."""
        files = self._parts.files
        with self._parts.database.read() as connection:
            listed = set(connection.scalars(select(images.c.file).where(images.c.job.in_(job_ids))))
            lost = self._uploads.unlisted(connection)
        if job_ids:
            own = (name for name in files.names(OUTPUTS) - listed if name.partition("-")[0] in job_ids)
            lost += [f"{OUTPUTS}/{name}" for name in own]
        for name in lost:
            files.remove(name)

    def _removed(self, path: str) -> bool:
        """Whether there is nothing more to do. An upload that another owner has, or that was sent again, stays."""
        folder, _, name = path.partition("/")
        if folder == UPLOADS:
            with self._parts.database.read() as connection:
                if connection.scalar(select(exists().where(uploads.c.sha256 == name))):
                    return True
        try:
            self._parts.files.remove(path)
        except StoreFailed:
            return False
        return True

    def _prune_some(self) -> bool:
        """Removes some of the oldest jobs, if there are too many; whether there may be more."""
        limits = self._parts.limits
        ended = jobs.c.state.in_(ENDED)
        with self._parts.database.write() as connection:
            count = connection.scalar(select(func.count()).where(ended)) or 0
            held = select(func.sum(images.c.bytes)).join(jobs, jobs.c.id == images.c.job).where(ended)
            over_bytes = int(connection.scalar(held) or 0) - limits.outputs
            over_count = count - limits.history
            if over_bytes <= 0 and over_count <= 0:
                return False
            size = func.coalesce(func.sum(images.c.bytes), 0).label("size")
            query = select(jobs.c.id, size).outerjoin(images, images.c.job == jobs.c.id).where(ended)
            query = query.group_by(jobs.c.sequence, jobs.c.id).order_by(_COLLECTED, jobs.c.sequence)
            oldest = connection.execute(query.limit(_AT_ONCE))
            chosen = _enough(oldest.all(), over_bytes, over_count)
            self._doom(connection, chosen)
        return len(chosen) == _AT_ONCE

    def _doom(self, connection: Connection, job_ids: Sequence[str]) -> None:
        """Removes the rows of jobs, and notes their files for removal, in one transaction."""
        files = list(connection.scalars(select(images.c.file).where(images.c.job.in_(job_ids))))
        if files:
            connection.execute(insert(doomed), [{"path": f"{OUTPUTS}/{file}"} for file in files])
        connection.execute(delete(jobs).where(jobs.c.id.in_(job_ids)))


def _row(connection: Connection, image_id: str, owner: str) -> AnyRow:
    row = None
    if is_id(image_id):
        query = select(images).join(jobs, jobs.c.id == images.c.job)
        row = connection.execute(query.where(images.c.id == image_id, jobs.c.owner == owner)).first()
    if row is None:
        raise UnknownJob(f"{image_id[:80]!r} is no image of yours")
    return row


def _enough(oldest: Sequence[AnyRow], over_bytes: int, over_count: int) -> list[str]:
    """The first jobs, until neither bytes nor number are over."""
    chosen: list[str] = []
    for row in oldest:
        if over_bytes <= 0 and over_count <= 0:
            break
        chosen.append(row.id)
        over_bytes -= int(row.size)
        over_count -= 1
    return chosen
