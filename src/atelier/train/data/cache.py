"""What encoders made of excerpts and captions, kept on disk: files named by all that their content comes from."""

from __future__ import annotations

import functools
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from atelier.errors import BadFile
from atelier.train.data.excerpts import Excerpt
from atelier.train.data.shards import state, whole
from atelier.weights.formats.atomic import new_file, sweep

DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a damaged file."""

Floats = NDArray[np.float16 | np.float32]


@dataclass(frozen=True, slots=True)
class Cache:
    """Arrays by key in a folder; several processes may use it at once."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Cache:
        """Makes the folder, or clears an old one of what was left half-written. Raises BadFile."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
        except OSError as error:
            raise BadFile(
                folder, f"cannot keep encoded images and captions ({error.strerror or error}): give another place"
            ) from error
        return cls(folder)

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def arrays(self, key: str, names: tuple[str, ...], make: Callable[[], Mapping[str, Floats]]) -> dict[str, Floats]:
        """The arrays of these names that are kept under a key; where there are none, or damaged ones, what `make` says.

        Either lie in memory in the order of their axes: a network may round otherwise what lies in another.

        Raises StorageFull and BadFile where they cannot be written, and what `make` raises.
        """
        try:
            return _stored(self.path(key), names)
        except DAMAGED:
            made = {name: np.ascontiguousarray(array) for name, array in make().items()}
        with new_file(self.path(key)) as file:
            np.savez(file, **cast("dict[str, Any]", {name: made[name] for name in names}))
        return {name: made[name] for name in names}


def excerpt_key(excerpt: Excerpt, encoder: str) -> str:
    """Names what an encoder makes of an excerpt: the bytes of its image, the part, a digest of the encoder; neither
    where the image lies nor its caption. Raises BadFile."""
    part = (*excerpt.scaled, *excerpt.size, excerpt.left, excerpt.top, excerpt.flipped)
    return _key("image", image_digest(excerpt.path), *part, encoder)


def image_digest(path: Path) -> str:
    """SHA-256 of an image file. Raises BadFile."""
    return _digest(path, state(path))


def text_key(text: str, encoder: str, clip_skip: int, chunks: int) -> str:
    """Names what an encoder makes of a caption. encoder: its digest; clip_skip: which layer is read; chunks: how many
    the text takes at least."""
    return _key("text", hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest(), encoder, clip_skip, chunks)


def _key(*parts: object) -> str:
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()


def _stored(path: Path, names: tuple[str, ...]) -> dict[str, Floats]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in names}


@functools.lru_cache(maxsize=2**16)
def _digest(path: Path, _: tuple[int, int]) -> str:
    """_: its bytes and time of change, so that a changed one is read anew."""
    return hashlib.sha256(whole(path)).hexdigest()
