"""A folder of images, each with its caption in a text file of the same name."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from atelier.errors import BadFile
from atelier.weights.formats.text import read_text
from atelier.weights.formats.tree import places

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
CAPTIONS = (".txt", ".caption")
BROKEN = (
    OSError,
    Image.DecompressionBombError,
    ValueError,
    SyntaxError,
    struct.error,
    RuntimeError,
    EOFError,
    TypeError,
    LookupError,
)
"""What Pillow raises for a damaged file, by format."""
DEEP = ("I", "F")
"""Modes of whole and of broken numbers that nobody says the range of."""


@dataclass(frozen=True, slots=True)
class FolderDataset:
    """Images of a folder and its subfolders, in order of their names, cut square around the centre.

    Transparent parts become white; a photograph's orientation mark is obeyed.
    """

    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    size: int

    @classmethod
    def open(cls, folder: Path, size: int) -> FolderDataset:
        """Reads all captions and all image headers.

        Raises BadFile naming the folder without images, the image without a caption, the broken image.
        """
        found = _files(folder)
        paths = tuple(sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES))
        if not paths:
            raise BadFile(folder, f"holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}): give the folder that does")
        for path in paths:
            _check(path)
        texts = {path.with_suffix(path.suffix.lower()): path for path in found}
        return cls(paths, tuple(_caption(path, texts) for path in paths), size)

    @property
    def length(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Image `index` modulo the length: uint8 RGB (size, size, 3). Raises BadFile if it cannot be decoded."""
        path = self.paths[index % self.length]
        try:
            with Image.open(path) as opened:
                flat = _flat(ImageOps.exif_transpose(opened))
                square = ImageOps.fit(flat, (self.size, self.size), Image.Resampling.LANCZOS)
        except BROKEN as error:
            raise _broken(path, error) from error
        return np.asarray(square)

    def caption(self, index: int) -> str:
        return self.captions[index % self.length]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadFile(folder, "no such folder: give a folder of images with .txt captions")
    return [path / name for path, _, names in places(folder, strict=True) for name in names]


def _check(path: Path) -> None:
    if not path.is_file():  # also a pipe, which would never end
        raise BadFile(path, "is no file, or a link to one that is not there: replace or remove it")
    try:
        with Image.open(path):
            pass
    except BROKEN as error:
        raise _broken(path, error) from error


def _caption(image: Path, texts: Mapping[Path, Path]) -> str:
    """texts: the files there are, by their names with the ending in lower case."""
    names = (beside for suffix in CAPTIONS for beside in (image.with_suffix(suffix), Path(f"{image}{suffix}")))
    for path in (texts[name] for name in names if name in texts):
        if path.is_file():
            return _text(path)
    raise BadFile(image, f"has no caption: write what it shows into {image.with_suffix(CAPTIONS[0]).name} beside it")


def _text(path: Path) -> str:
    words = " ".join(read_text(path).split())
    if not words:
        raise BadFile(path, "is empty: write what the image shows into it")
    return words


def _flat(image: Image.Image) -> Image.Image:
    """RGB; transparent parts over white; of 16 bits the upper eight. Raises ValueError for numbers without a range."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in DEEP:
        raise ValueError(f"its numbers are of mode {image.mode}, whose white nobody knows; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")


def _broken(path: Path, error: Exception) -> BadFile:
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return BadFile(path, f"broken image ({reason}): replace or remove it")
