"""The files of the store: written whole or not at all, read and removed without following links.

Layout of the folder: outputs/JOB-00000.png, states/JOB, uploads/SHA256. Nothing that a client says becomes a part of a
path, and there are no folders below the three, which the operator may make links to another disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from atelier.errors import BadFile, StorageFull
from atelier.runtime.jobs.faults import NO_FAULTS, Faults
from atelier.runtime.jobs.job import StoreFailed
from atelier.weights.formats.atomic import LEFT_OVER, new_file

OUTPUTS, STATES, UPLOADS = "outputs", "states", "uploads"
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
        path, half = self.folder / name, len(data) // 2
        with _refusals(path):
            self._faults.at(f"{what}.open")
            with new_file(path, synced=lambda: self._faults.at(f"{what}.rename")) as file:
                file.write(data[:half])
                self._faults.at(f"{what}.write")
                file.write(data[half:])
                file.flush()
                self._faults.at(f"{what}.fsync")
        self._faults.at(f"{what}.renamed", may_fail=False)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None where there is none of ours. Raises StoreFailed."""
        with _refusals(self.folder / name):
            try:
                return _read(self.folder / name)
            except OSError as error:
                if error.errno in _GONE:
                    return None
                raise

    def exists(self, name: str) -> bool:
        """Whether there is a file of ours."""
        try:
            return stat.S_ISREG((self.folder / name).lstat().st_mode)
        except OSError:
            return False

    def remove(self, name: str) -> None:
        """Removes a file. A link is removed, what it points to is not; a folder stays. Raises StoreFailed."""
        with _refusals(self.folder / name):
            try:
                (self.folder / name).unlink()
            except OSError as error:
                if error.errno not in _GONE:
                    raise

    def names(self, folder: str) -> set[str]:
        """What lies in one of the folders. Raises StoreFailed."""
        with _refusals(self.folder / folder):
            return set(os.listdir(self.folder / folder))  # noqa: PTH208 (names are wanted)

    def age(self, name: str, now: float) -> float:
        """Seconds since a file was written, 0 where that cannot be told."""
        try:
            return now - (self.folder / name).lstat().st_mtime
        except OSError:
            return 0.0

    def sweep(self) -> None:
        """Removes what killed processes left half-written; nobody else may be writing. Raises StoreFailed."""
        for folder in (".", OUTPUTS, STATES, UPLOADS):
            for name in self.names(folder):
                if LEFT_OVER.fullmatch(name):
                    self.remove(f"{folder}/{name}")


def _read(path: Path) -> bytes | None:
    """The bytes of a file, None for what is no file; a pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


@contextmanager
def _refusals(path: Path) -> Generator[None]:
    """Turns what the disk raises into StoreFailed."""
    try:
        yield
    except StorageFull as error:
        raise StoreFailed(f"{path.name}: no space is left", path=path, full=True) from error
    except BadFile as error:
        raise StoreFailed(
            f"{path.name}: {error.problem}".replace(str(path.parent), path.parent.name), path=path
        ) from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StoreFailed(f"{path.name}: {error.strerror or error}", path=path, full=full) from error
