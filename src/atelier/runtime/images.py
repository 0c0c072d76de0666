"""Images that requests start from: files, and data: URIs that hold one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.request.resolved import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image

DATA = "data:"
MAX_PIXELS = 80_000_000
"""Of an image that is read, by its header: a small file can say that it holds far more than any memory."""
TOO_MANY = f"at most {MAX_PIXELS:,} pixels are read; make it smaller first"
SHOWN = 40
"""Characters of a data: URI in messages."""


def reference_to(path: str) -> ImageRef:
    """Names an image by what it holds, so that a run sees the same one. Raises BadFile for what is none."""
    data = _bytes(path)
    _decoded(path, data).close()
    return ImageRef(path=path, sha256=hashlib.sha256(data).hexdigest())


def read_reference(image: ImageRef) -> Image:
    """The image, upright as its EXIF orientation says, in RGB, or RGBA where it has transparency.

    Raises BadFile for what is missing, damaged, no image, too large, or another one than was named.
    """
    data = _bytes(image.path)
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise BadFile(_shown(image.path), "has changed since the request was resolved; resolve it again")
    return _decoded(image.path, data)


def data_uri(image: Image) -> str:
    """An image in memory as a data: URI, so that a request can carry it."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _bytes(path: str) -> bytes:
    if path.startswith(DATA):
        head, _, body = path.partition(",")
        if not head.endswith(";base64"):
            raise BadFile(_shown(path), "is no data: URI in base64 (data:image/png;base64,...)")
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadFile(_shown(path), f"holds no base64 ({error})") from error
    try:
        return Path(path).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        raise BadFile(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _decoded(path: str, data: bytes) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadFile(
                    _shown(path), f"is {opened.width}x{opened.height} pixels: at most {MAX_PIXELS:,} are read"
                )
            upright = ImageOps.exif_transpose(opened)
            return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except UnidentifiedImageError as error:
        raise BadFile(_shown(path), "is no image that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadFile(_shown(path), TOO_MANY) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise BadFile(_shown(path), f"cannot be read as an image ({error})") from error


def _shown(path: str) -> str:
    return path if len(path) <= SHOWN or not path.startswith(DATA) else path[:SHOWN] + "…"
