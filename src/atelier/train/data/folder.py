"""A folder of images, each with its caption in a text file of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from atelier.errors import BadFile
from atelier.train.data.captions import ENDINGS, by_name, text_beside
from atelier.train.data.opening import IMAGE_SUFFIXES, flat, opened, upright
from atelier.weights.formats.text import read_text
from atelier.weights.formats.tree import places


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
            with opened(path):
                pass
        texts = by_name(found)
        return cls(paths, tuple(_caption(path, texts) for path in paths), size)

    @property
    def length(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Image `index` modulo the length: uint8 RGB (size, size, 3). Raises BadFile if it cannot be decoded."""
        path = self.paths[index % self.length]
        with opened(path) as image:
            return np.asarray(ImageOps.fit(flat(upright(image)), (self.size, self.size), Image.Resampling.LANCZOS))

    def caption(self, index: int) -> str:
        return self.captions[index % self.length]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadFile(folder, "no such folder: give a folder of images with .txt captions")
    return [path / name for path, _, names in places(folder, strict=True) for name in names]


def _caption(image: Path, texts: Mapping[Path, Path]) -> str:
    found = text_beside(image, texts)
    if found is None:
        raise BadFile(image, f"has no caption: write what it shows into {image.with_suffix(ENDINGS[0]).name} beside it")
    return _text(found)


def _text(path: Path) -> str:
    words = " ".join(read_text(path).split())
    if not words:
        raise BadFile(path, "is empty: write what the image shows into it")
    return words
