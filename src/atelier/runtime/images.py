"""Images that requests start from: files, and data: URIs that hold one."""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from atelier.errors import BadFile
from atelier.request.resolved import ImageRef
from atelier.runtime.source_images import read_bytes, source_image

if TYPE_CHECKING:
    from PIL.Image import Image

DATA = "data:"
SHOWN = 40
"""Characters of a data: URI in messages."""


class Images(Protocol):
    """Where the images are that requests name."""

    def refer(self, name: str, /) -> ImageRef:
        """Names an image by what it holds, so that a run sees the same one. Raises BadInput for what is none."""
        ...

    def size(self, name: str, /) -> tuple[int, int]:
        """Width and height of an image, upright, in pixels. Raises BadInput for what is none."""
        ...

    def read(self, image: ImageRef, /) -> Image:
        """The image, upright, RGB or RGBA. Raises BadInput, also where it is another one by now."""
        ...


class LocalImages:
    """Those in files of this machine, by path, and those in data: URIs."""

    def refer(self, name: str, /) -> ImageRef:
        return reference_to(name)

    def size(self, name: str, /) -> tuple[int, int]:
        return size_of(name)

    def read(self, image: ImageRef, /) -> Image:
        return read_reference(image)


def reference_to(path: str) -> ImageRef:
    """Names an image by what it holds, so that a run sees the same one. Raises BadFile for what is none."""
    data = _bytes(path)
    _decoded(path, data).close()
    return ImageRef(path=path, sha256=hashlib.sha256(data).hexdigest())


def size_of(path: str) -> tuple[int, int]:
    """Width and height of an image, upright, in pixels. Raises BadFile for what is none."""
    return _decoded(path, _bytes(path)).size


def read_reference(image: ImageRef) -> Image:
    """The image, upright as its EXIF orientation says, in RGB, or RGBA where it has transparency.

    Raises BadFile for what is missing, damaged, no image, too large, or another one than was named.
    """
    data = _bytes(image.path)
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise BadFile(_shown(image.path), "has changed since the request was resolved; resolve it again")
    return _decoded(image.path, data)


def _bytes(path: str) -> bytes:
    if not path.startswith(DATA):
        return read_bytes(Path(path).expanduser())
    head, _, body = path.partition(",")
    if not head.endswith(";base64"):
        raise BadFile(_shown(path), "is no data: URI in base64 (data:image/png;base64,...)")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadFile(_shown(path), f"holds no base64 ({error})") from error


def _decoded(path: str, data: bytes) -> Image:
    return source_image(Path(_shown(path)), data).image


def _shown(path: str) -> str:
    return path if len(path) <= SHOWN or not path.startswith(DATA) else path[:SHOWN] + "…"
