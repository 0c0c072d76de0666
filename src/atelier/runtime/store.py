"""Where pictures go: whole or not at all, each under a name of its own."""

from __future__ import annotations

import io
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import BadFile, BadInput
from atelier.weights.formats.atomic import new_file

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIX = ".png"
TEXT_KEY = "parameters"
OTHER_FORMATS = frozenset({".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
NUMBERED = re.compile(r"(\d{5,})\b.*\.png", re.IGNORECASE)
LEFT_OVER = re.compile(r"\.tmp-[0-9a-f]{32}")
STALE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the pictures of one request go.

    A folder takes numbered names (00001-SEED.png, counting on from what is there, never replacing a file). A file name
    takes the picture, replacing what stood there; several pictures are numbered before the suffix (cat-1.png, …).
    """

    folder: Path
    file: str | None = None

    @classmethod
    def of(cls, output: str) -> Destination:
        """A name that ends in .png is a file, any other a folder. Raises BadInput for other picture formats."""
        path = Path(output).expanduser()
        if path.is_dir() or output.endswith(("/", os.sep)):
            return cls(path)
        suffix = path.suffix.lower()
        if suffix in OTHER_FORMATS:
            raise BadInput(f"{output}: pictures are written as PNG: use {path.with_suffix(SUFFIX)}")
        return cls(path.parent, path.name) if suffix == SUFFIX else cls(path)

    def prepare(self) -> None:
        """Makes the folder and proves that a file can be written there. Raises BadFile or StorageFull."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _sweep(self.folder)
        except OSError as error:
            raise BadFile(
                self.folder, f"cannot be used for pictures ({error.strerror}): choose another folder"
            ) from error
        probe = self.folder / f".tmp-{os.urandom(16).hex()}"
        write(probe, b"\0")
        probe.unlink()

    def save(self, image: Image, infotext: str, *, picture: int, pictures: int, seed: int) -> Path:
        """Writes picture `picture` (0-based) of `pictures`; returns where it lies. Raises BadFile or StorageFull."""
        data = png(image, infotext)
        if self.file is None:
            return _write_numbered(self.folder, f"-{seed}{SUFFIX}", data)
        name = Path(self.file)
        path = self.folder / (self.file if pictures == 1 else f"{name.stem}-{picture + 1}{name.suffix}")
        write(path, data)
        return path


def write(path: Path, data: bytes) -> None:
    """Writes a whole file, replacing what stood there, or nothing; makes its folder. Raises BadFile or StorageFull."""
    _make(path.parent)
    with new_file(path) as file:
        file.write(data)


def png(image: Image, infotext: str) -> bytes:
    """The bytes of a PNG with the text in its chunk `parameters` (tEXt for Latin-1, iTXt beyond)."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text(TEXT_KEY, infotext)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def _write_numbered(folder: Path, ending: str, data: bytes) -> Path:
    number = _next_number(folder)
    while True:
        path = folder / f"{number:05d}{ending}"
        try:
            with new_file(path, replace=False) as file:
                file.write(data)
        except FileExistsError:
            number += 1
        else:
            return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(folder, f"cannot be made a folder ({error.strerror}): choose another place") from error


def _next_number(folder: Path) -> int:
    numbers = (int(found[1]) for path in _entries(folder) if (found := NUMBERED.match(path.name)))
    return 1 + max(numbers, default=0)


def _sweep(folder: Path) -> None:
    """Removes what a process that was killed left half-written."""
    for path in _entries(folder):
        if LEFT_OVER.fullmatch(path.name):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise BadFile(folder, f"cannot be read ({error.strerror}): choose another folder") from error
