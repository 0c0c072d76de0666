"""What a teaching will see of its training images, before it begins: a report, and a sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.errors import BadFile
from atelier.train.data import duplicates
from atelier.train.data.buckets import Size
from atelier.train.data.excerpts import Excerpt, mask, pixels
from atelier.train.data.sheet import sheet
from atelier.train.data.subsets import Example, Listener, Subset
from atelier.train.data.teaching import TeachingSet, collected, fit_of
from atelier.vision.lettering import PAPER

LARGEST_SHOWN = 256
"""Pixels of the longer side of the largest excerpt on a sheet."""
DIMMED = 0.3
"""Share of its brightness that is left on a sheet of what a mask takes out."""


@dataclass(frozen=True, slots=True)
class Enlarged:
    """An image that has fewer pixels than its bucket, and how many times it is enlarged."""

    path: Path
    size: Size
    factor: float


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to know. images: how many are taught; classes: how many are of the class; epoch: steps in which all
    are shown; buckets: images an epoch shows of each size. Then what may be wrong: captions that are missing (the words
    of the subset stand for them), images that are enlarged, groups that look alike, what cannot be used and why, other
    notes."""

    images: int
    classes: int
    epoch: int
    buckets: tuple[tuple[Size, int], ...]
    uncaptioned: tuple[Path, ...]
    enlarged: tuple[Enlarged, ...]
    alike: tuple[tuple[Path, ...], ...]
    refused: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspected:
    """A report, and the set that it is about."""

    report: Report
    data: TeachingSet


def inspected(
    source: Path, subset: Subset, batch: int, seed: int, classes: Path | None = None, class_words: str = ""
) -> Inspected:
    """Reads and decodes all images of `source` and `classes` as a teaching would, and passes over what cannot be used.

    Raises BadFile where nothing is left, naming the first that cannot be used.
    """
    refused: list[BadFile] = []
    notes: list[str] = []
    try:
        read = collected(source, subset, classes, class_words, Listener(refused.append, notes.append))
    except BadFile as error:
        raise _nothing_left(source, refused) if refused and error.path == str(source) else error from None
    looked = [(example, _look(example, refused)) for example in read.examples]
    usable = [(example, look) for example, look in looked if look is not None]
    if not usable:
        raise _nothing_left(source, refused)
    examples = [example for example, _ in usable]
    data = TeachingSet.of(examples, batch=read.batch or batch, seed=seed)
    groups = duplicates.alike([look for _, look in usable])
    report = Report(
        images=len(data.instances),
        classes=len(data.classes),
        epoch=data.epoch,
        buckets=tuple(data.buckets.items()),
        uncaptioned=tuple(example.path for example in data.instances if not example.captioned),
        enlarged=tuple(_enlarged(data)),
        alike=tuple(tuple(examples[number].path for number in group) for group in groups),
        refused=tuple((error.path, error.problem) for error in refused),
        notes=tuple(notes),
    )
    return Inspected(report, data)


def seen(data: TeachingSet, count: int) -> list[Excerpt]:
    """The first `count` different images that the first epoch shows, as it shows them, those of the class too."""
    found: dict[Path, Excerpt] = {}
    for step in range(data.epoch):
        for excerpt in data.excerpts(step):
            found.setdefault(excerpt.path, excerpt)
        if len(found) >= count:
            break
    return list(found.values())[:count]


def excerpt_sheet(excerpts: Sequence[Excerpt], columns: int) -> Image.Image:
    """A page of excerpts, all at one scale, with size and caption of each beneath. Raises BadFile."""
    room = max(e.size[0] for e in excerpts), max(e.size[1] for e in excerpts)
    scale = min(1.0, LARGEST_SHOWN / max(room))
    tiles = [_tile(excerpt, room, scale) for excerpt in excerpts]
    return sheet(tiles, [_words(excerpt) for excerpt in excerpts], columns)


def _nothing_left(source: Path, refused: Sequence[BadFile]) -> BadFile:
    return BadFile(source, f"none of its {len(refused)} images can be used; the first: {refused[0]}")


def _look(example: Example, refused: list[BadFile]) -> duplicates.Look | None:
    """Of the whole image, decoded with its mask, so that one which is cut off is found."""
    size = example.size
    whole = Excerpt(example.path, size, size, 0, 0, flipped=False, original=size, caption="", mask=example.mask)
    try:
        fit_of(example)
        mask(whole)
        return duplicates.look(pixels(whole))
    except BadFile as error:
        refused.append(error)
        return None


def _enlarged(data: TeachingSet) -> Iterator[Enlarged]:
    for example, fit in data.fits():
        factor = fit.scaled[0] / example.size[0]
        if fit.scaled[0] > example.size[0]:
            yield Enlarged(example.path, example.size, round(factor, 2))


def _tile(excerpt: Excerpt, room: Size, scale: float) -> NDArray[np.uint8]:
    image = Image.fromarray(_dimmed(pixels(excerpt), mask(excerpt)))
    page = Image.new("RGB", _scaled(room, scale), PAPER)
    page.paste(image.resize(_scaled(excerpt.size, scale), Image.Resampling.LANCZOS) if scale < 1 else image, (0, 0))
    return np.asarray(page)


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _dimmed(image: NDArray[np.uint8], counts: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    if counts is None:
        return image
    return (image * (DIMMED + (1 - DIMMED) * counts[..., None])).round().astype(np.uint8)


def _words(excerpt: Excerpt) -> str:
    kind = " class" if excerpt.is_class else ""
    marks = "".join(f", {word}" for word, is_so in (("flipped", excerpt.flipped), ("masked", excerpt.mask)) if is_so)
    return f"{excerpt.path.name} {excerpt.size[0]}x{excerpt.size[1]}{kind}{marks}: {excerpt.caption}"
