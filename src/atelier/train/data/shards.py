"""Webdataset shards: training images in tar files, read where they lie. Nothing is ever unpacked.

A member is addressed as if the shard were a folder: `00000.tar/000000000.jpg`. Its bytes are read from their place in
the shard; names are looked up there and never on the disk.
"""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from atelier.errors import BadFile

SUFFIX = ".tar"
LARGEST = 2**28
"""Bytes of a member; more is no training image."""
LONGEST_HEADER = 2**20
"""Bytes of one extended header, which are read at once: names and times are a few hundred."""
MOST = 1_000_000
"""Members of a shard; img2dataset writes 30,000."""
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
"""Kinds of members that are files lying in the shard as they are; others are folders, links, devices, sparse files."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where the bytes of a file lie in its shard."""

    start: int
    length: int


def shard_of(path: Path) -> tuple[Path, str] | None:
    """The shard that a path leads into, and the member's name there; None for a path that leads into none."""
    parents = (parent for parent in path.parents if parent.suffix.lower() == SUFFIX)
    shard = next((parent for parent in parents if parent.is_file()), None)
    return None if shard is None else (shard, path.relative_to(shard).as_posix())


def members(shard: Path) -> Mapping[str, Member]:
    """The files in a shard by name, in their order.

    Raises BadFile for what is no uncompressed tar file, is cut off, or holds names that lead out of it, files above
    LARGEST, or more than MOST members.
    """
    return _members(shard, state(shard))


def content(shard: Path, name: str) -> bytes:
    """The bytes of a file in a shard. Raises BadFile."""
    member = members(shard).get(name)
    if member is None:
        raise BadFile(shard / name, "is not in its shard any more: read the training images anew")
    try:
        with shard.open("rb") as file:
            file.seek(member.start)
            return file.read(member.length)
    except OSError as error:
        raise _unreadable(shard, error) from error


def whole(path: Path) -> bytes:
    """The bytes of a file, or of one in a shard. Raises BadFile."""
    within = shard_of(path)
    if within is not None:
        return content(*within)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def state(path: Path) -> tuple[int, int]:
    """Bytes and time of change (ns) of a file, or of the shard that it lies in. Raises BadFile."""
    within = shard_of(path)
    try:
        found = (path if within is None else within[0]).stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _members(shard: Path, _: tuple[int, int]) -> Mapping[str, Member]:
    """_: its bytes and time of change, so that a changed shard is read anew."""
    found: dict[str, Member] = {}
    try:
        with _Careful(io.FileIO(shard)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for number, info in enumerate(tar):
                if number == MOST:
                    raise BadFile(shard, f"holds more than {MOST:,} members: divide it")
                _check(shard, info)
                if info.type in PLAIN:
                    found[info.name] = Member(info.offset_data, info.size)
    except OSError as error:
        raise _unreadable(shard, error) from error
    except (tarfile.TarError, ValueError, EOFError, RecursionError) as error:
        raise BadFile(
            shard, f"is no uncompressed tar file, or a damaged one ({error}): write the shard again"
        ) from error
    return MappingProxyType(found)


def _unreadable(path: Path, error: OSError) -> BadFile:
    return BadFile(path, f"cannot be read ({error.strerror or error})")


def _check(shard: Path, info: tarfile.TarInfo) -> None:
    parts = PurePosixPath(info.name).parts
    if not parts or ".." in parts or info.name.startswith("/"):
        raise BadFile(shard, f"holds {info.name!r}, a name that leads out of it: write the shard again")
    if info.size > LARGEST:
        raise BadFile(shard, f"holds {info.name}, {info.size:,} bytes: a training image has {LARGEST:,} at most")
    if info.size < 0:  # would lead tarfile back to where it was
        raise BadFile(shard, f"holds {info.name}, {info.size} bytes: write the shard again")


class _Careful(io.BufferedReader):
    """A file that is never read far at once: tarfile reads as much as a header says that its extension has."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)
