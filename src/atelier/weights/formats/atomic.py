"""Files and folders that appear complete or not at all, also when the power fails or the disk is full."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from atelier.errors import BadFile, StorageFull

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOST = {*_FULL, errno.EIO}
"""What a sync says when the disk did not keep what it was given; other errors are of file systems that cannot sync."""
LEFT_OVER = re.compile(r"\.tmp-[0-9a-f]{32}")
"""What `new_file` and `new_folder` call things that are not finished."""
STALE_SECONDS = 3600
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def _nothing() -> None:
    pass


@contextmanager
def new_file(path: Path, *, replace: bool = True, synced: Callable[[], None] = _nothing) -> Generator[BinaryIO]:
    """A binary file for writing that takes the name `path` once it is complete and synced.

    A file that has the name already is replaced, or with `replace=False` kept, and FileExistsError raised. synced: is
    called when the bytes are durable and the name is not taken yet; what it raises ends the block early. Raises
    StorageFull when the disk refuses the bytes and BadFile when the place cannot be written; whatever ends the block
    early, nothing is left behind and an earlier file of that name is untouched.
    """
    temporary = _beside(path)
    try:
        with _named(path):
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            synced()
            if replace:
                temporary.replace(path)
            else:
                _name_once(temporary, path)
            _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Generator[Path]:
    """A folder to fill that takes the name `path` once the block ends; the files in it should come from `new_file`.

    Raises BadFile when `path` exists and is not an empty folder, unless `overwrite` lets it be replaced.
    """
    temporary = _beside(path)
    if not overwrite and _occupied(path):
        raise BadFile(path, "exists already; choose another name or remove it first")
    try:
        with _named(path):
            temporary.mkdir()
            yield temporary
            for folder, _, _ in os.walk(temporary, topdown=False):
                _sync(Path(folder))
            _take_place(temporary, path)
            _sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def expanded(path: str | Path) -> Path:
    """The path, with the user's own folder for ~. Raises BadFile where that is of nobody."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BadFile(path, "begins with a ~ for a user that is not known here: write the whole path") from error


def reachable(path: Path) -> Path:
    """The path, if the system can look for it at all. Raises BadFile for a name that is too long, say."""
    try:
        path.exists()
    except OSError as error:
        raise BadFile(path, f"cannot be used ({error.strerror or error})") from error
    return path


def sweep(folder: Path) -> None:
    """Removes from `folder` what processes that were killed an hour ago or earlier left half-written.

    What cannot be removed stays. Raises OSError when the folder cannot be read.
    """
    for path in folder.iterdir():
        if LEFT_OVER.fullmatch(path.name):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _take_place(temporary: Path, path: Path) -> None:
    """What stood there steps aside under a name that is never swept: between two renames it is the only good copy."""
    if not path.exists():
        temporary.rename(path)
        return
    old = path.with_name(f"{path.name}.old-{uuid.uuid4().hex}")
    path.rename(old)
    try:
        temporary.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old) if old.is_dir() else old.unlink()


def _name_once(temporary: Path, path: Path) -> None:
    """Two writers never take one name: a link fails where there is a file. Not every file system has links."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        temporary.rename(path)
    else:
        temporary.unlink()


def _occupied(path: Path) -> bool:
    return path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir()))


def _beside(path: Path) -> Path:
    return path.absolute().parent / f".tmp-{uuid.uuid4().hex}"


@contextmanager
def _named(path: Path) -> Generator[None]:
    """Turns the operating system's refusals into one line about `path`."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        folder = path.absolute().parent
        if error.errno == errno.ENOENT and not folder.is_dir():
            raise BadFile(path, f"cannot be written: the folder {folder} does not exist") from error
        if error.errno in _FULL:
            raise StorageFull(f"{path}: the disk is full; free some space or choose another place") from error
        raise BadFile(path, f"cannot be written ({error.strerror or error})") from error


def _sync(folder: Path) -> None:
    """Makes the names in a folder durable; file systems that cannot sync folders are left alone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _LOST:
            raise
    finally:
        os.close(descriptor)
