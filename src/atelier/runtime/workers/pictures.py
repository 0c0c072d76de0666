"""Images as bytes: files with their infotext, thumbnails, previews."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from atelier.runtime.jobs.lease import MadeImage
from atelier.runtime.store import encoded

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 256
"""Pixels along the longer side."""
LARGEST = 512
"""Of a preview."""


def made_image(image: Image, infotext: str, index: int, seed: int | None, data: bytes | None = None) -> MadeImage:
    """An image as the command line writes it to a PNG. data: the file, where it is encoded already."""
    return MadeImage(
        index=index,
        seed=seed,
        width=image.width,
        height=image.height,
        format="png",
        infotext=infotext,
        data=data or encoded(image, infotext),
        thumbnail=jpeg(image, THUMBNAIL),
    )


def jpeg(image: Image, largest: int = LARGEST, quality: int = 80) -> bytes:
    """A JPEG of at most so many pixels a side, without any metadata."""
    small = image.convert("RGB")
    small.thumbnail((largest, largest))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
