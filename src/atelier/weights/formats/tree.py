"""The folders below a folder as their owner sees them: without clutter, links followed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from atelier.errors import BadFile


class Place(NamedTuple):
    """A folder, the names of the folders in it (those that are taken out are not entered), and of all else in it."""

    path: Path
    folders: list[str]
    files: list[str]


def places(folder: Path, *, strict: bool = False) -> Iterator[Place]:
    """`folder` and all below it, names sorted, without what is hidden; a loop of links is entered once.

    strict: every folder once, however many links lead there, the place itself before any link to it. Raises BadFile
    for a loop and for a folder that cannot be read, which are passed over otherwise.
    """
    waiting, seen = deque([(folder, frozenset[str]())]), set[str]()
    while waiting:
        path, above = waiting.popleft()
        real = os.path.realpath(path)
        if real in above and strict:
            raise BadFile(path, "is a link back to a folder that it lies in: take the link out")
        if real in above or (strict and real in seen):
            continue
        seen.add(real)
        place = _entries(path, strict=strict)
        yield place
        inside = [(path / name, above | {real}) for name in place.folders]
        waiting.extendleft(entry for entry in reversed(inside) if not entry[0].is_symlink())
        waiting.extend(entry for entry in inside if entry[0].is_symlink())


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
