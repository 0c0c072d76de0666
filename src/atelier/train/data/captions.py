"""Text files with captions, each beside its image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ENDINGS = (".txt", ".caption")
"""Most collections have the first, kohya's default is the second."""
FACE_BOX = re.compile(r"(?:_\d{4}){4}\Z")
"""What tools that find faces put after a name; the caption may be called without it."""


def by_name(found: Iterable[Path]) -> Mapping[Path, Path]:
    """Files by their names with the ending in lower case."""
    return {path.with_suffix(path.suffix.lower()): path for path in found}


def text_beside(image: Path, texts: Mapping[Path, Path], endings: Sequence[str] = ENDINGS) -> Path | None:
    """The file with the caption of an image: photo.txt or photo.png.txt, and photo.txt also for photo_0010_0020_0200_
    0300.png. texts: those there are, `by_name`."""
    stems = dict.fromkeys((image.stem, FACE_BOX.sub("", image.stem)))
    names = (image.with_name(f"{stem}{ending}") for stem in (*stems, image.name) for ending in endings)
    return next((texts[name] for name in names if name in texts and texts[name].is_file()), None)


def lines(text: str) -> str:
    """The lines that say something, without space around them."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())
