"""The files of the store: written whole or not at all, read and removed without following links.

Layout of the folder: outputs/JOB/00000.png and 00000.thumb, states/JOB, uploads/SHA256. Nothing that a client says
becomes a part of a path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atelier.errors import BadFile, StorageFull
from atelier.runtime.jobs.faults import NO_FAULTS, Faults
from atelier.runtime.jobs.job import StoreFailed
from atelier.weights.formats.atomic import LEFT_OVER, new_file

OUTPUTS, STATES, UPLOADS = "outputs", "states", "uploads"
_OWN = re.compile(r"\d{5,}\.(?:png|jpeg|webp|avif|thumb)")
"""What files in a job's folder are called."""
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EPERM, errno.ENXIO}
"""What opening or removing says of a file that is not there, or is not one of ours (a link, a folder)."""


class Files:
    """The folder of a store. folder: is made if it is not there. Names are relative to it, with "/"."""

    def __init__(self, folder: Path, faults: Faults = NO_FAULTS) -> None:
        self.folder = folder
        self._faults = faults

    def prepare(self) -> None:
        """Makes the folders. Raises StoreFailed."""
        with _refusals(self.folder):
            for name in (OUTPUTS, STATES, UPLOADS):
                (self.folder / name).mkdir(parents=True, exist_ok=True)

    def write(self, name: str, data: bytes, what: str) -> None:
        """Makes a file durable, replacing one of that name. what: the name of the fault points. Raises StoreFailed."""
        path = self.folder / name
        with _refusals(path):
            self._make(path.parent)
            self._faults.at(f"{what}.open")
            with new_file(path) as file:
                half = len(data) // 2
                file.write(data[:half])
                self._faults.at(f"{what}.write")
                file.write(data[half:])
                file.flush()
                self._faults.at(f"{what}.fsync")
                os.fsync(file.fileno())
                self._faults.at(f"{what}.rename")
        self._faults.at(f"{what}.renamed", may_fail=False)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None where there is none of ours. Raises StoreFailed."""
        with _refusals(self.folder / name), self._parent(name) as (parent, last):
            if parent is None:
                return None
            try:
                descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            except OSError as error:
                if error.errno in _GONE:
                    return None
                raise
            with open(descriptor, "rb") as file:  # noqa: PTH123 (a descriptor, no path)
                return file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None

    def exists(self, name: str) -> bool:
        """Whether there is a file of ours."""
        with self._parent(name) as (parent, last):
            if parent is None:
                return False
            with contextlib.suppress(OSError):
                return stat.S_ISREG(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode)
        return False

    def remove(self, name: str) -> None:
        """Removes a file, and its folder if that is empty now. A link is removed, what it points to is not. Raises
        StoreFailed."""
        with _refusals(self.folder / name):
            with self._parent(name) as (parent, last):
                if parent is None:
                    return
                try:
                    os.unlink(last, dir_fd=parent)
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
            if name.count("/") > 1:
                with contextlib.suppress(OSError):
                    (self.folder / name).parent.rmdir()

    def unlisted(self, job_id: str, listed: Iterable[str]) -> list[str]:
        """Files in a job's folder that are named as ours are, but not listed."""
        names = self._names(f"{OUTPUTS}/{job_id}")
        return [f"{OUTPUTS}/{job_id}/{n}" for n in sorted(names - set(listed)) if _OWN.fullmatch(n)]

    def names(self, folder: str) -> set[str]:
        """The names in one of the folders."""
        return self._names(folder)

    def age(self, name: str, now: float) -> float:
        """Seconds since a file was written, 0 where that cannot be told."""
        with contextlib.suppress(OSError):
            return now - (self.folder / name).lstat().st_mtime
        return 0.0

    def sweep(self) -> int:
        """Removes what killed processes left half-written; nobody else may be writing. Returns how many files."""
        with _refusals(self.folder):
            left = [name for folder in self._folders() for name in self._left_over(folder)]
            for name in left:
                self.remove(name)
        return len(left)

    def _folders(self) -> Iterator[str]:
        yield from (".", STATES, UPLOADS)
        with os.scandir(self.folder / OUTPUTS) as entries:
            yield from (f"{OUTPUTS}/{e.name}" for e in entries if e.is_dir(follow_symlinks=False))

    def _left_over(self, folder: str) -> Iterator[str]:
        return (f"{folder}/{name}" for name in self._names(folder) if LEFT_OVER.fullmatch(name))

    def _names(self, folder: str) -> set[str]:
        with self._parent(f"{folder}/.") as (descriptor, _):
            return set() if descriptor is None else set(os.listdir(descriptor))  # noqa: PTH208 (a descriptor)

    def _make(self, folder: Path) -> None:
        """Makes the folder of a job durable: a file in it is lost if the folder is."""
        if folder.is_symlink():
            raise StoreFailed(f"{folder}: is a link, and nothing is written through links: remove it")
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextmanager
    def _parent(self, name: str) -> Generator[tuple[int | None, str]]:
        """The folder of a file as a descriptor, and the file's last name. The store's own three folders may be links
        that the operator made, to another disk say; what is in them may not."""
        top, *middle, last = name.split("/")
        descriptor = self._descend(top, middle)
        try:
            yield descriptor, last
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _descend(self, top: str, middle: list[str]) -> int | None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            descriptor = os.open(self.folder / top, flags)
            for part in middle:
                above = descriptor
                try:
                    descriptor = os.open(part, flags | os.O_NOFOLLOW, dir_fd=above)
                finally:
                    os.close(above)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        return descriptor


@contextmanager
def _refusals(path: Path) -> Generator[None]:
    """Turns what the disk raises into StoreFailed."""
    try:
        yield
    except StorageFull as error:
        raise StoreFailed(str(error), full=True) from error
    except BadFile as error:
        raise StoreFailed(str(error)) from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StoreFailed(f"{path}: {error.strerror or error}", full=full) from error
