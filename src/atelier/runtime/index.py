"""What is known of files from their headers, remembered in SQLite: a folder of ten thousand lists without opening them.

An entry holds as long as the file has the same number, size and times of change, also of who may read it. The index is
only a memory: one that cannot be read, written or locked is done without.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

VERSION = 2
"""Of what entries say; others are forgotten."""
_TABLE = "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, entry TEXT NOT NULL)"
_PUT = "INSERT OR REPLACE INTO files VALUES (?, ?, ?)"
_PATIENCE = 2.0
"""Seconds to wait for another process that writes."""

Entry = Mapping[str, object]


class Index:
    """Entries of files, in a database at `path`; in memory where there is none. Not for several threads."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, tuple[str, str]] = {}

    def entries(self, files: Iterable[Path], make: Callable[[Path], Entry]) -> Iterator[tuple[Path, Entry]]:
        """The entry of each file in turn, made by `make` where none is known of it as it is now."""
        self._read()
        made: list[tuple[str, str, str]] = []
        for file in files:
            key, stamp = str(file.absolute()), _stamp(file)
            known = self._known.get(key)
            if stamp and known is not None and known[0] == stamp:
                yield file, cast("dict[str, object]", json.loads(known[1]))
                continue
            entry = dict(make(file))
            made.append((key, stamp, json.dumps(entry)))
            yield file, entry
        self._write(made)

    def _read(self) -> None:
        if self._path is None or not self._path.is_file():
            return
        with suppress(sqlite3.Error), closing(self._opened(self._path)) as database:
            rows = database.execute("SELECT path, stamp, entry FROM files")
            self._known = {path: (stamp, entry) for path, stamp, entry in rows}

    def _write(self, made: list[tuple[str, str, str]]) -> None:
        self._known |= {path: (stamp, entry) for path, stamp, entry in made}
        if self._path is None or not made:
            return
        with suppress(sqlite3.Error, OSError), closing(self._opened(self._path)) as database, database:
            database.executemany(_PUT, made)

    def _opened(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=_PATIENCE)
        if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            database.execute("DROP TABLE IF EXISTS files")
            database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute(_TABLE)
        return database


def _stamp(file: Path) -> str:
    """What changes with a file, or with the files of a folder two levels down; empty for what cannot be looked at."""
    try:
        inside = sorted((*file.glob("*"), *file.glob("*/*"))) if file.is_dir() else []
        states = [found.stat() for found in (file, *inside)]
    except OSError:
        return ""
    return " ".join(f"{own.st_ino}/{own.st_size}/{own.st_mtime_ns}/{own.st_ctime_ns}" for own in states)
