"""Captions for images that have none, out of ranked words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from atelier.errors import BadFile
from atelier.train.data.captions import ENDINGS, by_name, text_beside
from atelier.train.data.opening import IMAGE_SUFFIXES, flat, opened, upright
from atelier.weights.formats.atomic import new_file
from atelier.weights.formats.tree import places

if TYPE_CHECKING:
    from atelier.vision.interrogate import Ranked


@dataclass(frozen=True, slots=True)
class Composing:
    """How words become a caption. top: at most so many of each list; least: their smallest share, 0 to 1; between: what
    joins them; before: what every caption begins with."""

    top: int = 1
    least: float = 0.0
    between: str = ", "
    before: str = ""


def to_caption(folder: Path, *, overwrite: bool) -> list[tuple[Path, Path]]:
    """The images of a folder and its subfolders that have no caption, each with the file that it is written to; all of
    them with `overwrite`. Raises BadFile for a place without images."""
    if not folder.is_dir():
        raise BadFile(folder, "no such folder: give a folder of images")
    found = [path / name for path, _, names in places(folder, strict=True) for name in names]
    images = sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise BadFile(folder, "holds no images: give the folder that does")
    texts = by_name(found)
    beside = ((image, text_beside(image, texts)) for image in images)
    return [(image, text or image.with_suffix(ENDINGS[0])) for image, text in beside if overwrite or text is None]


def image_of(path: Path) -> Image.Image:
    """The image as training sees it, whole. Raises BadFile."""
    with opened(path) as image:
        return flat(upright(image))


def composed(ranked: Mapping[str, Sequence[Ranked]], how: Composing) -> str:
    """The best words of each list, in the order of the lists; may be empty."""
    words = (own.word for rows in ranked.values() for own in rows[: how.top] if own.share >= how.least)
    return how.before + how.between.join(words)


def write(caption: str, path: Path, *, overwrite: bool) -> bool:
    """Whether the file was written: without `overwrite` one that is there stays. Raises StorageFull, BadFile."""
    try:
        with new_file(path, replace=overwrite) as file:
            file.write(f"{caption}\n".encode())
    except FileExistsError:
        return False
    return True
