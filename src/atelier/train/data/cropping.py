"""Training images cut as a teaching sees them, saved beside their captions in a folder of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from atelier.errors import BadFile, BadInput
from atelier.train.data.excerpts import Excerpt, pixels
from atelier.train.data.shards import SUFFIX as SHARD
from atelier.train.data.teaching import TeachingSet
from atelier.weights.formats.atomic import new_file

IMAGE, CAPTION = ".png", ".txt"


def cropped(data: TeachingSet, source: Path, out: Path, tell: Callable[[Path], None]) -> int:
    """Saves the middle of every image in `out`, which gets the folders of `source`, with the captions that are their
    own; tells each path, and returns how many there are.

    Nothing is replaced: raises BadInput where a file is there already, before any is written, and where `out` lies in
    `source`; BadFile and StorageFull.
    """
    if out.resolve().is_relative_to(source.resolve()):
        raise BadInput(f"{out}: lies in {source}: give a folder of its own, or its images would be training images too")
    examples = data.instances + data.classes
    targets = _targets([example.path for example in examples], source, out)
    for target in targets:
        _check_free(target)
        _check_free(target.with_suffix(CAPTION))
    for (example, fit), target in zip(data.fits(), targets, strict=True):
        left, top = ((long - short) // 2 for long, short in zip(fit.scaled, fit.size, strict=True))
        part = Excerpt(example.path, fit.size, fit.scaled, left, top, flipped=False, original=example.size, caption="")
        _save(Image.fromarray(pixels(part)), target)
        if example.captioned:
            _write(f"{example.caption}\n".encode(), target.with_suffix(CAPTION))
        tell(target)
    return len(targets)


def _targets(paths: Sequence[Path], source: Path, out: Path) -> list[Path]:
    """a.jpg becomes a.png; where there is an a.webp too, a.jpg.png."""
    base = source if source.is_dir() else source.parent
    within = (path.relative_to(base) if path.is_relative_to(base) else Path(path.name) for path in paths)
    inside = [_without_shard(path) for path in within]
    count = Counter(path.with_suffix("") for path in inside)
    return [
        out / (path.with_suffix(IMAGE) if count[path.with_suffix("")] == 1 else path.with_name(f"{path.name}{IMAGE}"))
        for path in inside
    ]


def _without_shard(path: Path) -> Path:
    """The shard's name without its ending, as a folder of that name would be taken for a shard."""
    return Path(*(part.removesuffix(SHARD) for part in path.parts))


def _check_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise BadInput(f"{path}: is there already, and nothing is replaced: give a new folder")


def _save(image: Image.Image, path: Path) -> None:
    _make(path.parent)
    try:
        with new_file(path, replace=False) as file:
            image.save(file, "PNG")
    except FileExistsError:
        _check_free(path)
        raise


def _write(data: bytes, path: Path) -> None:
    with new_file(path, replace=False) as file:
        file.write(data)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(folder, f"cannot be made ({error.strerror or error}): give another place") from error
