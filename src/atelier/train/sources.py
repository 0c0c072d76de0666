"""Where a recipe's images come from: emoji scenes or a folder, each with a part held out for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from atelier.train.data import art
from atelier.train.data.dataset import Dataset, SceneDataset
from atelier.train.data.folder import FolderDataset
from atelier.train.data.scenes import Split
from atelier.train.randomness import key
from atelier.train.recipe import EMOJI, Data, Recipe, digest

SHOWN = 32
"""Scenes whose images and words stand for how all of them are made."""


def dataset(data: Data, split: Split) -> Dataset:
    """The recipe's images for training, or those held out from it.

    Held-out scenes show what training never does, and come from another seed. Of a folder one image in ten is held
    out, data.validation at most and one at least, chosen by name; a folder of one image is both. Raises BadInput for
    an unusable folder and where the emoji font is missing.
    """
    if data.source == EMOJI:
        art.font_path()
        return SceneDataset(data.seed + (split == "held_out"), split, data.size, data.shares)
    whole = FolderDataset.open(Path(data.source), data.size)
    return whole if whole.length == 1 else _part(whole, data, split)


def identity(recipe: Recipe, data: Dataset) -> str:
    """What must not change between the parts of one run: the recipe up to its length, and the images."""
    return f"{digest(recipe)}-{fingerprint(data)}"


def fingerprint(data: Dataset) -> str:
    """Sixteen hexadecimal digits that change with the art and words of scenes, and with a folder's files and captions.

    An image counts as changed when its name, size in bytes or time of modification is another.
    """
    content = hashlib.sha256()
    for part in _folder(data) if isinstance(data, FolderDataset) else _scenes(data):
        content.update(len(part).to_bytes(8, "little") + part)
    return content.hexdigest()[:16]


def _part(whole: FolderDataset, data: Data, split: Split) -> FolderDataset:
    count = max(1, min(data.validation, whole.length // 10))
    ranked = sorted(range(whole.length), key=lambda i: (key(data.seed, whole.paths[i].name), whole.paths[i]))
    apart = set(ranked[:count])
    chosen = [i for i in range(whole.length) if (i in apart) == (split == "held_out")]
    return FolderDataset(tuple(whole.paths[i] for i in chosen), tuple(whole.captions[i] for i in chosen), whole.size)


def _folder(data: FolderDataset) -> Iterator[bytes]:
    yield str(data.size).encode()
    for path, caption in zip(data.paths, data.captions, strict=True):
        stat = path.stat()
        yield f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{caption}".encode(errors="surrogateescape")


def _scenes(data: Dataset) -> Iterator[bytes]:
    yield repr(data).encode()
    yield (files("atelier") / "data" / "emoji" / "concepts.json").read_bytes()
    yield art.font_path().read_bytes()
    for index in range(SHOWN):
        yield data.caption(index).encode() + data.image(index).tobytes()
