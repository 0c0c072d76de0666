"""The folders below a folder as their owner sees them: without clutter, links followed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from atelier.errors import BadFile


class Place(NamedTuple):
    """A folder, the names of the folders in it (those that are taken out are not entered), and of all else in it."""

    path: Path
    folders: list[str]
    files: list[str]


OF_SYSTEM = frozenset({"/proc", "/sys", "/dev", "/run"})
"""What systems show of themselves as folders: no file that anybody keeps is there."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a walk ends: at so many folders one in another, and after so many entries; tell: is given a line for each
    thing that was left out."""

    deep: int
    entries: int
    tell: Callable[[str], None]


def places(folder: Path, *, strict: bool = False, bound: Bound | None = None) -> Iterator[Place]:
    """`folder` and all below it, names sorted, without what is hidden; a loop of links is entered once.

    strict: every folder once, however many links lead there, the place itself before any link to it. Raises BadFile
    for a loop and for a folder that cannot be read, which are passed over otherwise. bound: None for all there is.
    """
    waiting, seen, count = deque([(folder, frozenset[str]())]), set[str](), 0
    while waiting:
        path, above = waiting.popleft()
        real = os.path.realpath(path)
        if bound is not None and not _is_within(bound, folder, path, real, len(above), count):
            if count >= bound.entries:
                return
            continue
        if real in above and strict:
            raise BadFile(path, "is a link back to a folder that it lies in: take the link out")
        if real in above or (strict and real in seen):
            continue
        seen.add(real)
        place = _entries(path, strict=strict)
        count += len(place.folders) + len(place.files)
        yield place
        inside = [(path / name, above | {real}) for name in place.folders]
        waiting.extendleft(entry for entry in reversed(inside) if not entry[0].is_symlink())
        waiting.extend(entry for entry in inside if entry[0].is_symlink())


def again(seen: Iterable[Place]) -> Iterator[Place]:
    """The walk that has seen these places once more, without looking at the disk; what is taken out of a place is not
    entered."""
    closed = set[Path]()
    for place in seen:
        if place.path in closed or place.path.parent in closed:
            closed.add(place.path)
            continue
        own = Place(place.path, [*place.folders], [*place.files])
        yield own
        closed.update(place.path / name for name in {*place.folders}.difference(own.folders))


def _is_within(bound: Bound, folder: Path, path: Path, real: str, deep: int, count: int) -> bool:
    """Whether a folder is entered; tells where it is not."""
    if count >= bound.entries:
        bound.tell(f"{folder}: has {bound.entries:,} files and folders or more, of which the first were looked at")
    elif deep > bound.deep:
        bound.tell(f"{path}: lies more than {bound.deep} folders below {folder}, and was not looked at")
    elif real in OF_SYSTEM:
        bound.tell(f"{path}: is the system's own, and was not looked at")
    else:
        return True
    return False


def _entries(path: Path, *, strict: bool) -> Place:
    place = Place(path, [], [])
    try:
        for entry in sorted(path.iterdir()):
            if not entry.name.startswith("."):  # clutter of systems and editors, and what is half-written
                (place.folders if entry.is_dir() else place.files).append(entry.name)
    except OSError as error:
        if strict:
            raise BadFile(path, f"cannot be read ({error.strerror})") from error
    return place
