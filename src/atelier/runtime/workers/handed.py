"""The images that come with a job: by the names of uploads, and nothing else."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import BadFile, BadInput
from atelier.request.resolved import ImageRef
from atelier.runtime.jobs.job import TooLarge
from atelier.runtime.source_images import SourceImage, source_image
from atelier.runtime.workers.names import AS_LARGE_AS, shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from atelier.runtime.workers.kind import Most

FORMATS = ("PNG", "JPEG", "WEBP")
"""Of images from strangers: what every program writes, in Pillow's most used readers."""
PNG = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS, MOST_PIXEL_CHUNKS = 2000, 100_000
"""Of a PNG: others than those of pixels, of which programs write one for every 8 KiB or so."""


class HandedImages:
    """Implements `runtime.images.Images` over bytes in memory: a request of a client names no file of the server."""

    def __init__(self, most: Most) -> None:
        self._most = most
        self._data: dict[str, bytes] = {}

    def hold(self, data: Mapping[str, bytes]) -> None:
        """These, by name, in place of those before."""
        self._data = dict(data)

    def refer(self, name: str, /) -> ImageRef:
        self.source(name).image.close()
        return ImageRef(path=name, sha256=hashlib.sha256(self._bytes(name)).hexdigest())

    def size(self, name: str, /) -> tuple[int, int]:
        return self.source(name).image.size

    def read(self, image: ImageRef, /) -> Image:
        return self.source(image.path).image

    def source(self, name: str) -> SourceImage:
        """The image with what it carries. Raises BadFile for what is none, TooLarge for too many pixels."""
        return checked(self._bytes(name), shown(name), self._most)

    def _bytes(self, name: str) -> bytes:
        """Of an upload; a mask that is to be as large as an image is stretched to it, unless it is."""
        own, brought, image = name.partition(AS_LARGE_AS)
        if not brought:
            return self._held(name)
        size, mask = self.size(image), self.source(own).image
        return self._held(own) if mask.size == size else _stretched(mask, size)

    def _held(self, name: str) -> bytes:
        data = self._data.get(name)
        if data is None:
            raise BadInput(
                f"{shown(name)!r} is no image that was uploaded: upload it, and name it as it is called then"
            )
        return data


def _stretched(image: Image, size: tuple[int, int]) -> bytes:
    from PIL.Image import Resampling

    buffer = io.BytesIO()
    image.resize(size, Resampling.LANCZOS).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def checked(data: bytes, name: str, most: Most) -> SourceImage:
    """The image of some bytes: PNG, JPEG or WebP, of so many pixels as its header says before anything is decoded.

    Raises BadFile, TooLarge.
    """
    _check_chunks(data, name)
    width, height = _size(data, name, most)
    if width * height > most.upload_pixels or max(width, height) > most.upload_side:
        raise TooLarge(f"{name}: has {width}x{height} pixels, {_limit(most)}")
    return source_image(Path(name), data, most=most.upload_pixels)


def _check_chunks(data: bytes, name: str) -> None:
    """Raises BadFile for a PNG of so many chunks that reading them one by one would take seconds."""
    if not data.startswith(PNG):
        return
    at, pixels, others = len(PNG), 0, 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        pixels, others = (pixels + 1, others) if kind == b"IDAT" else (pixels, others + 1)
        if pixels > MOST_PIXEL_CHUNKS or others > MOST_CHUNKS:
            raise BadFile(name, f"has more than {MOST_CHUNKS:,} chunks beside its pixels: save it again")
        at += 12 + length


def _size(data: bytes, name: str, most: Most) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                return opened.size
    except UnidentifiedImageError as error:
        raise BadFile(name, "is no PNG, JPEG or WebP: convert it to one of them") from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{name}: has far too many pixels, {_limit(most)}") from error
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise BadFile(name, f"is damaged and cannot be read as an image ({reason})") from error


def _limit(most: Most) -> str:
    return f"at most {most.upload_pixels:,} and {most.upload_side:,} a side are read: make it smaller"
