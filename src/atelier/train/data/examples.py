"""Reading training images: kohya's folders, folders of images with captions, files of metadata, webdataset shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from atelier.errors import BadFile
from atelier.train.data import metadata, shards
from atelier.train.data.captions import by_name, lines, text_beside
from atelier.train.data.opening import IMAGE_SUFFIXES, opened, upright_size
from atelier.train.data.sharded import in_shard
from atelier.train.data.subsets import STRICT, Example, Found, Listener, Subset
from atelier.weights.formats.text import read_text
from atelier.weights.formats.tree import places

REPEATED = re.compile(r"(\d+)_(.+)", re.DOTALL)
"""kohya's folders: how often an image comes, and the class tokens."""
MOST_REPEATS = 1_000_000
IMAGES, OF_CLASS = "img", "reg"
"""What kohya's graphical interface calls the two folders in the folder of a training."""


def read(source: Path, subset: Subset, listener: Listener = STRICT) -> tuple[Example, ...]:
    """The training images of a place, in order of their names, their headers read.

    source: a folder of folders as kohya has them (`10_zwx person`, also in `img` beside `reg`, which then holds the
    images of the class); a folder with images, captions beside them or in `metadata.jsonl`; a file of metadata; a shard
    (.tar) or a folder of them. Images without a caption take the words of their folder, or else of `subset`.

    Raises BadFile naming the place without images, the image without a caption, the broken image.
    """
    found = tuple(_read(source, subset, listener))
    if not found:
        raise BadFile(source, f"holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}): give the folder that does")
    return found


def _read(source: Path, subset: Subset, listener: Listener) -> Iterator[Example]:
    if source.is_file():
        yield from _read_file(source, subset, listener)
        return
    if not source.is_dir():
        raise BadFile(source, "no such folder: give a folder of images, a file of metadata or a .tar")
    tars, folders = _shards(source), _repeated(source)
    if _repeated(source / IMAGES):
        yield from _read(source / IMAGES, subset, listener)
        if (source / OF_CLASS).is_dir():
            yield from _read(source / OF_CLASS, subset.of_class, listener)
    elif folders:
        yield from _read_repeated(source, folders, subset, listener)
    elif tars:
        if any(path.suffix.lower() in IMAGE_SUFFIXES for path in source.iterdir()):
            listener.note(f"{source}: its images are passed over, since it holds shards (.tar)")
        for tar in tars:
            yield from _examples(in_shard(tar, listener), subset, listener)
    else:
        yield from _examples(_in_folder(source, subset, listener), subset, listener)


def _read_file(source: Path, subset: Subset, listener: Listener) -> Iterator[Example]:
    if source.suffix.lower() == shards.SUFFIX:
        yield from _examples(in_shard(source, listener), subset, listener)
    elif source.suffix.lower() in metadata.ENDINGS:
        yield from read_metadata(source, source.parent, subset, listener)
    else:
        raise BadFile(
            source, "is no folder of images, file of metadata (.json, .jsonl) or shard (.tar): give one of these"
        )


def read_metadata(file: Path, folder: Path, subset: Subset, listener: Listener) -> Iterator[Example]:
    """The images that a file of metadata names, in its order; names are those in `folder`."""
    masks = _masks(subset)
    rows = metadata.captions_in(file, folder)
    yield from _examples((Found(p, c or None, _mask(p, masks, subset)) for p, c in rows.items()), subset, listener)


def _repeated(folder: Path) -> Mapping[Path, tuple[int, str]]:
    """kohya's folders in a folder, with repeats and class tokens."""
    if not folder.is_dir():
        return {}
    named = {path: REPEATED.fullmatch(path.name) for path in sorted(folder.iterdir()) if path.is_dir()}
    return {path: (int(name[1]), name[2]) for path, name in named.items() if name and len(name[1]) < 10}


def _read_repeated(
    source: Path, folders: Mapping[Path, tuple[int, str]], subset: Subset, listener: Listener
) -> Iterator[Example]:
    for other in sorted(source.iterdir()):
        shows = other.is_dir() or other.suffix.lower() in IMAGE_SUFFIXES
        if shows and other not in folders and not other.name.startswith("."):
            listener.note(
                f"{other}: is passed over, since the folders beside it are called as {next(iter(folders)).name}"
            )
    for folder, (repeats, words) in folders.items():
        if not 0 < repeats <= MOST_REPEATS:
            listener.note(f"{folder}: is passed over: its images come {repeats} times")
            continue
        own = replace(subset, repeats=repeats, words=words.strip() or subset.words)
        yield from _examples(_in_folder(folder, own, listener), own, listener)


def _in_folder(folder: Path, subset: Subset, listener: Listener) -> Iterator[Found]:
    found = [path / name for path, _, names in places(folder, strict=True) for name in names]
    rows: Mapping[Path, str] = {}
    if folder / metadata.BESIDE in found:
        rows = metadata.captions_in(folder / metadata.BESIDE, folder)
    texts, masks = by_name(found), _masks(subset)
    own = None if subset.masks is None else subset.masks.resolve()
    for path in sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES):
        if own is None or not path.resolve().is_relative_to(own):
            try:
                yield Found(path, rows.get(path) or _text(path, texts, subset), _mask(path, masks, subset))
            except BadFile as error:
                listener.refuse(error)
    for missing in sorted(rows.keys() - set(found)):
        listener.refuse(BadFile(missing, f"is named in {metadata.BESIDE} and is not there: take its line out"))


def _text(image: Path, texts: Mapping[Path, Path], subset: Subset) -> str | None:
    found = text_beside(image, texts, subset.endings)
    if found is None:
        return None
    said = lines(read_text(found))
    if not said and not subset.words:
        raise BadFile(found, "is empty: write what the image shows into it")
    return said or None


def _masks(subset: Subset) -> Mapping[str, Sequence[Path]]:
    """By their names without ending."""
    if subset.masks is None:
        return {}
    if not subset.masks.is_dir():
        raise BadFile(subset.masks, "no such folder: give a folder of masks that are called as their images")
    files = (path / name for path, _, names in places(subset.masks, strict=True) for name in names)
    found: dict[str, list[Path]] = {}
    for path in sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES):
        found.setdefault(path.stem, []).append(path)
    return found


def _mask(image: Path, masks: Mapping[str, Sequence[Path]], subset: Subset) -> Path | None:
    """The mask of an image: it lies straight in the folder of masks, or in folders there that are called as those of
    the image, which then is nearer."""
    assert subset.masks is not None or not masks
    near: Path | None = None
    for mask in masks.get(image.stem, ()):
        within = mask.relative_to(subset.masks or "").parent.parts
        if image.parent.parts[len(image.parent.parts) - len(within) :] == within:
            near = max(near or mask, mask, key=lambda path: len(path.parts))
    return near


def _shards(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == shards.SUFFIX and not p.name.startswith("."))


def _examples(found: Iterable[Found], subset: Subset, listener: Listener) -> Iterator[Example]:
    for one in found:
        try:
            yield _example(one, subset)
        except BadFile as error:
            listener.refuse(error)


def _example(found: Found, subset: Subset) -> Example:
    said = found.caption or subset.words
    if not said:
        beside = f"{found.path.stem}{subset.endings[0]}"
        raise BadFile(found.path, f"has no caption: write what it shows into {beside} beside it, or give words for all")
    with opened(found.path) as image:
        size = upright_size(image)
    mask = found.path if subset.alpha_mask else found.mask
    return Example(found.path, size, said, subset, mask, captioned=bool(found.caption))
