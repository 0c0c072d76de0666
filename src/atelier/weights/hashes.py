"""Hashes that identify models, of files as the community quotes them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from atelier.errors import AtelierError, BadFile
from atelier.weights.formats.atomic import new_file

SHORT = 10
SHORT_TENSORS = 12
"""Digits of the hash without the header, which infotexts say of LoRAs (AutoV3)."""

LEGACY_START, LEGACY_END = 0x100000, 0x110000
"""Bytes of a file that A1111's first hash is of."""


class HashCache:
    """SHA-256 of files, remembered by path, size and modification time, in memory and in a JSON file if one is named.

    An unreadable cache file counts as empty, and one that cannot be written is not an error: hashes are only slower.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known: dict[str, str] = {} if path is None else _read_cache(path)

    def sha256(self, file: Path) -> str:
        """64 hex digits. Raises BadFile."""
        key = _key(file)
        if key not in self._known:
            self._known[key] = file_sha256(file)
            self._write()
        return self._known[key]

    def tensors_sha256(self, file: Path) -> str:
        """Of a safetensors file without its header, which metadata change; of another the same as `sha256`. Raises
        BadFile."""
        key = f"{_key(file)}|tensors"
        if key not in self._known:
            self._known[key] = file_sha256(file, skip=header_bytes(file))
            self._write()
        return self._known[key]

    def known_tensors(self, file: Path) -> str | None:
        """`tensors_sha256` where it is remembered. Raises BadFile."""
        return self._known.get(f"{_key(file)}|tensors")

    def known(self, file: Path) -> str | None:
        """The same where it is remembered, without reading the file. Raises BadFile."""
        return self._known.get(_key(file))

    def _write(self) -> None:
        if self.path is None:
            return
        try:
            with new_file(self.path) as file:
                file.write(json.dumps(self._known, indent=0, sort_keys=True).encode())
        except AtelierError:
            return


def _key(file: Path) -> str:
    try:
        state = file.stat()
    except OSError as error:
        raise BadFile(file, f"cannot be read ({error.strerror})") from error
    return f"{file.absolute()}|{state.st_size}|{state.st_mtime_ns}"


def file_sha256(path: Path, *, skip: int = 0) -> str:
    """64 hex digits of a whole file, or of what follows its first bytes. Raises BadFile."""
    try:
        with path.open("rb") as file:
            file.seek(skip)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error


def legacy_hash(path: Path) -> str:
    """A1111's first hash of a model, 8 hex digits: SHA-256 of 64 KiB of it. Raises BadFile."""
    try:
        with path.open("rb") as file:
            file.seek(LEGACY_START)
            return hashlib.sha256(file.read(LEGACY_END - LEGACY_START)).hexdigest()[:8]
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error


def header_bytes(path: Path) -> int:
    """How many bytes stand before the tensors of a safetensors file; 0 for another. Raises BadFile."""
    try:
        with path.open("rb") as file:
            first = file.read(9)
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    length = int.from_bytes(first[:8], "little")
    return 8 + length if first[8:] == b"{" and length <= path.stat().st_size - 8 else 0


def files_sha256(files: Iterable[Path], root: Path, cache: HashCache) -> str:
    """64 hex digits for a model of several files: over each one's path below `root` and its own hash, sorted.

    A single file is hashed plainly, so that its first ten digits are the hash that A1111 and Civitai quote.
    """
    paths = sorted(files)
    if len(paths) == 1 and paths[0] == root:
        return cache.sha256(root)
    lines = (f"{os.path.relpath(path, root)} {cache.sha256(path)}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def short(digest: str) -> str:
    """The model hash of infotexts: ten hex digits."""
    return digest[:SHORT]


def _read_cache(path: Path) -> dict[str, str]:
    try:
        found = cast("object", json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
    entries = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    return {key: value for key, value in entries.items() if isinstance(value, str)}
