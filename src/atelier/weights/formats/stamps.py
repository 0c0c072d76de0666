"""Files of weights opened for reading, and whether they are still what they were."""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

from atelier.errors import BadFile

Stamp = tuple[int, int, int]
"""Number, size, and time of the last change of a file."""


def opened(path: Path) -> FileIO:
    """Opens a regular file for reading; a FIFO or device is refused before an open could hang on it. Raises BadFile."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BadFile(path, "is a folder, not a file of weights")
        if not stat.S_ISREG(mode):
            raise BadFile(path, "is not a regular file")
        return path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise BadFile(path, "does not exist") from error
    except (OSError, ValueError) as error:
        raise BadFile(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def stamp_of(file: FileIO) -> Stamp:
    state = os.fstat(file.fileno())
    return state.st_ino, state.st_size, state.st_mtime_ns


def check_unchanged(path: Path, file: FileIO, stamp: Stamp) -> None:
    """Raises BadFile where a file was written to while it was read, so that what was read is of neither version."""
    if stamp_of(file) != stamp:
        raise BadFile(path, "changed while it was being read; wait until it is written, and try again")


def shrank(path: Path) -> BadFile:
    """The error about a file that ends before what its header promises."""
    return BadFile(path, "shrank while it was being read")
