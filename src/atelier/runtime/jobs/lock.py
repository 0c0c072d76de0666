"""One server at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from atelier.runtime.jobs.job import FolderInUse, StoreFailed

NAME = "server.lock"
_OPEN = b"open"


class FolderLock:
    """Held by an open file, so that it ends with the process, whatever kills it. The file says who holds it.

    killed: whether the last server that opened its store here never closed it. Raises FolderInUse.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise StoreFailed(f"{self._path}: cannot be opened ({error.strerror}): choose another folder") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise FolderInUse(
                f"{folder}: another server{self._holder()} keeps its jobs here: stop it, or choose another folder"
            ) from error
        self.killed = _OPEN in os.pread(self._file, 64, 0)
        self._say(b"")

    def opened(self) -> None:
        """The store is open: whoever finds this word later knows that it was not closed."""
        self._say(_OPEN)

    def release(self, *, closed: bool) -> None:
        """Lets others in. closed: nothing is left to recover. The file stays: removing it could take it from under a
        server that is just opening it."""
        if closed:
            os.truncate(self._file, 0)
        os.close(self._file)

    def _say(self, word: bytes) -> None:
        os.truncate(self._file, 0)
        os.pwrite(self._file, b"%d %s\n" % (os.getpid(), word), 0)

    def _holder(self) -> str:
        words = self._path.read_text(encoding="ascii", errors="replace").split()
        return f" (process {words[0]})" if words else ""
