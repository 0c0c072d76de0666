"""Images as their owners collect them: frozen data without a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atelier.runtime.jobs.job import JobImage

Change = Literal["star", "unstar", "delete", "restore", "purge"]
"""What is done to images. delete: into the trash; restore: out of it; purge: for good, where they are in the trash."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image in the gallery. job: that made it; made, deleted: seconds since 1970, deleted None outside the trash;
    boards: the ids of those it is on."""

    image: JobImage
    job: str
    made: float
    starred: bool
    deleted: float | None
    boards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """images: how many lie on it; cover: the newest of them, None on an empty board."""

    id: str
    name: str
    created: float
    images: int = 0
    cover: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images. q: words and field:value; starred: only those with a star, or without; board: the id of one;
    deleted: those of the trash, instead of all others."""

    q: str = ""
    starred: bool | None = None
    board: str | None = None
    job: str | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of them: `limit` from behind the image `before`, after leaving out `skip`."""

    limit: int = 100
    before: str | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """entries: newest first; total: of all that fit, not only of this part."""

    entries: tuple[Entry, ...]
    total: int
