"""Enlarging images of users: how much, with what, and what the result says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import BadInput
from atelier.request.infotext import interpret, read, write
from atelier.request.infotext.image import TEXT_KEY, Unreadable, read_image, save_options
from atelier.request.infotext.pairs import quoted
from atelier.runtime.store import FORMATS, Destination, encoded
from atelier.runtime.store import write as write_file
from atelier.vision.blended import Blended
from atelier.vision.enlarging import cover, enlarge
from atelier.vision.upscaling import MOST_PIXELS, Size, Tell, Upscaler, quiet
from atelier.weights.formats.atomic import new_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from atelier.runtime.source_images import SourceImage

MOST_SCALE = 16.0
EXTRAS = ("postprocessing", "extras")
"""The PNG chunks in which A1111 says what its Extras tab did (docs/upscaling.md)."""
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Scale:
    """How large: `by` a factor, or `to` a size that the image is made to cover, what is too much cut off evenly."""

    by: float | None = None
    to: Size | None = None

    @classmethod
    def of(cls, text: str) -> Scale:
        """From "2", "1.5" or "1024x768". Raises BadInput."""
        if size := _SIZE.fullmatch(text.strip()):
            return cls.checked(to=(int(size[1]), int(size[2])))
        try:
            return cls.checked(by=float(text))
        except ValueError:
            raise BadInput(f"scale {text}: write a factor such as 2, or a size such as 1024x768") from None

    @classmethod
    def checked(cls, by: float | None = None, to: Size | None = None) -> Scale:
        """Raises BadInput for what is out of range."""
        if by is not None and not 0 < by <= MOST_SCALE:
            raise BadInput(f"scale {by:g}: it must be more than 0 and at most {MOST_SCALE:g}")
        if to is not None and min(to) < 1:
            raise BadInput(f"scale {to[0]}x{to[1]}: both sides need at least 1 pixel")
        return cls(by, to)

    def size(self, image: Size) -> Size:
        """The size of the result for an image of that size. Raises BadInput where it would be too large."""
        factor = self.by or 1.0
        size = self.to or (max(1, round(image[0] * factor)), max(1, round(image[1] * factor)))
        if size[0] * size[1] > MOST_PIXELS:
            raise BadInput(f"scale: {size[0]}x{size[1]} is more than {MOST_PIXELS:,} pixels: choose a smaller one")
        return size


@dataclass(frozen=True, slots=True)
class Upscaling:
    """What is done to every image of a run."""

    upscaler: Upscaler
    scale: Scale

    def image(self, image: Image, tell: Tell = quiet) -> Image:
        """The image enlarged, in RGB, or RGBA if it is one. Raises BadInput, NotFinite."""
        size = self.scale.size(image.size)
        return cover(self.upscaler, image, size, tell) if self.scale.to else enlarge(self.upscaler, image, size, tell)

    def pairs(self, image: Image) -> Iterator[tuple[str, str]]:
        """What A1111 says of it, for an image as it was before."""
        if self.scale.to is None:
            yield "Postprocess upscale by", f"{self.scale.by:g}"
        else:
            size = "x".join(map(str, self.scale.to))
            yield "Postprocess upscale to", size
            if image.width * self.scale.to[1] != image.height * self.scale.to[0]:
                yield "Postprocess crop to", size
        yield "Postprocess upscaler", self.upscaler.name
        if isinstance(self.upscaler, Blended):
            yield "Postprocess upscaler 2", self.upscaler.second.name
            yield "Postprocess upscaler 2 visibility", f"{self.upscaler.visibility:g}"


def blended(first: Upscaler, second: Upscaler | None, visibility: float) -> Upscaler:
    """Both, the second with that share; the first alone where there is no second. Raises BadInput."""
    if not 0 <= visibility <= 1:
        raise BadInput(f"visibility {visibility:g}: it must be from 0 to 1")
    return first if second is None or visibility == 0 else Blended(first, second, visibility)


def check(source: SourceImage, upscaling: Upscaling, to: Destination) -> None:
    """Raises BadInput, before the work, for what the format could not hold afterwards, and where the source would be
    lost."""
    size, kind = upscaling.scale.size(source.image.size), FORMATS[to.suffix]
    if source.image.mode == "RGBA" and not kind.alpha:
        raise BadInput(f"{source.path}: a {kind.name} cannot hold its transparency: write PNG, WebP or AVIF")
    if kind.side is not None and max(size) > kind.side:
        raise BadInput(
            f"{source.path}: a {kind.name} has at most {kind.side} pixels a side, {max(size)} would be needed"
        )
    path = to.folder / (to.file or "")
    if to.file is not None and path.exists() and path.samefile(source.path):
        raise BadInput(f"{path}: it would be replaced by its own enlargement: choose another name")


def save(source: SourceImage, image: Image, upscaling: Upscaling, to: Destination) -> Path:
    """Writes the result; returns where it lies.

    In a folder it is called after the source, with a number where that name is taken; a file that was named is
    replaced. Raises BadFile or StorageFull, and BadInput where the format cannot hold it.
    """
    carried = _carried(source, upscaling, FORMATS[to.suffix].name)
    data = encoded(image, infotext(source, upscaling), to.suffix, carried=carried)
    if to.file is None:
        return write_beside(to.folder, source.path.stem, to.suffix, data)
    path = to.folder / to.file
    write_file(path, data)
    return path


def write_beside(folder: Path, stem: str, suffix: str, data: bytes) -> Path:
    """Writes a file under a name that is free, a number behind it if need be. Raises BadFile or StorageFull."""
    for number in count(1):
        path = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
        try:
            with new_file(path, replace=False) as file:
                file.write(data)
        except FileExistsError:
            continue
        return path
    raise AssertionError


def encoded_after(source: SourceImage, image: Image, upscaling: Upscaling) -> bytes:
    """The result as the file of a PNG that says what the source says and what was done to it."""
    return encoded(image, infotext(source, upscaling), carried=_carried(source, upscaling, "PNG"))


def _carried(source: SourceImage, upscaling: Upscaling, image_format: str) -> dict[str, object]:
    """What Pillow's `save` is given: what the source says, what was done to it, and the profile of its colours.

    A PNG keeps the source's chunks and says what was done in those of A1111; its `parameters`, and the UserComment of
    other formats, is the source's infotext with the same pairs at its end.
    """
    done = ", ".join(f"{key}: {quoted(value)}" for key, value in upscaling.pairs(source.image))
    text = infotext(source, upscaling)
    options: dict[str, object] = {} if source.profile is None else {"icc_profile": source.profile}
    if image_format != "PNG":
        return options | save_options(image_format, text or done)
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    texts = {**source.texts, TEXT_KEY: text, **dict.fromkeys(EXTRAS, done)}
    for key, value in texts.items():
        if value:
            chunks.add_text(key, value)
    return options | {"pnginfo": chunks}


def infotext(source: SourceImage, upscaling: Upscaling) -> str:
    """The source's infotext, and what was done at the end of its parameters; "" where it has none."""
    pairs = tuple(upscaling.pairs(source.image))
    text = source.texts.get(TEXT_KEY, "")
    if text.rpartition("\n")[2].startswith("Steps: "):
        return ", ".join([text, *(f"{key}: {quoted(value)}" for key, value in pairs)])
    try:
        found = read_image(source.data) or (read(text) if text else None)
    except Unreadable:
        found = None
    if found is None:
        return ""
    settings = interpret(found).settings
    return write(replace(settings, extras=(*settings.extras, *pairs)))
