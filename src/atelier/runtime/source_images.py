"""Reading images of users: what they carry, upright, and none that is larger than it should be."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.request.infotext.image import EXIF_IFD, TEXT_KEY, USER_COMMENT, decode_comment

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 80_000_000
MOST_BYTES = 500_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
"""Of Pillow's many readers, those of images that people have; of several frames the first is read."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"})
CARRIED = (
    TEXT_KEY,
    "prompt",
    "workflow",
    "generation_data",
    "invokeai_metadata",
    "invokeai_graph",
    "sd-metadata",
    "Dream",
    "Title",
    "Software",
    "Source",
    "Description",
    "Comment",
    "fooocus_scheme",
)
"""The text chunks of PNG in which programs say how an image was generated. Others, who and where, stay behind."""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image of a user. image: upright, RGB, or RGBA where it has transparency; texts: what it carries of CARRIED;
    profile: of its colours (ICC), None where it has none; data: the bytes of the file."""

    path: Path
    image: Image
    texts: Mapping[str, str]
    profile: bytes | None
    data: bytes = field(repr=False)


def open_image(path: Path, *, most: int = MOST_PIXELS) -> SourceImage:
    """Reads an image of at most so many pixels, which its header says before anything is decoded.

    Raises BadFile for what is missing, damaged, too large, or no image.
    """
    return source_image(path, read_bytes(path), most=most)


def source_image(path: Path, data: bytes, *, most: int = MOST_PIXELS) -> SourceImage:
    """The same for the bytes of an image that messages call `path`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_readable()) as opened:
                _check_size(path, opened, most)
                return _source(path, opened, data)
    except UnidentifiedImageError as error:
        raise BadFile(path, "is no image that can be read (PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF)") from error
    except Image.DecompressionBombError as error:
        raise BadFile(path, f"has more than {most:,} pixels, the most that is read: make it smaller") from error
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise BadFile(path, f"is damaged and cannot be read as an image ({reason})") from error


def images_in(folder: Path) -> Iterator[Path]:
    """The image files directly in a folder, by name. Raises BadFile."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise BadFile(folder, f"cannot be read ({error.strerror})") from error
    yield from (path for path in found if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file. Raises BadFile for what is missing, no file, or too large to be an image."""
    try:
        if not path.is_file():
            raise BadFile(path, "is no file" if path.exists() else "does not exist")
        if path.stat().st_size > MOST_BYTES:
            raise BadFile(path, "is too large for an image")
        return path.read_bytes()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error


def _readable() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(path: Path, opened: Image, most: int) -> None:
    if opened.width * opened.height > most:
        size = f"{opened.width}x{opened.height}"
        raise BadFile(path, f"has {size} pixels, and {most:,} is the most that is read: make it smaller")


def _source(path: Path, opened: Image, data: bytes) -> SourceImage:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(opened)
    image = _eight_bits(upright).convert("RGBA" if upright.has_transparency_data else "RGB")
    texts = {key: value for key in CARRIED if isinstance(value := opened.info.get(key), str)}
    if comment := _comment(opened):
        texts.setdefault(TEXT_KEY, comment)
    profile = opened.info.get("icc_profile")
    is_rgb = opened.mode in {"RGB", "RGBA", "P"}
    return SourceImage(
        path, image, MappingProxyType(texts), profile if is_rgb and isinstance(profile, bytes) else None, data
    )


def _eight_bits(image: Image) -> Image:
    """Grey images of 16 bits, which Pillow would cut off at white, with their upper 8."""
    from PIL.Image import fromarray

    if not image.mode.startswith("I"):
        return image
    import numpy as np

    return fromarray((np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8).astype(np.uint8))


def _comment(opened: Image) -> str:
    """The text in the EXIF UserComment, where formats other than PNG carry an infotext."""
    raw = opened.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
    return decode_comment(raw) if isinstance(raw, bytes) else str(raw)
