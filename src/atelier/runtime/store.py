"""Where images go: whole or not at all, each under a name of its own, with the text that made it inside."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.errors import BadFile, BadInput, StorageFull
from atelier.request.infotext.image import save_options
from atelier.weights.formats.atomic import expanded, new_file, reachable, sweep

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIX = ".png"


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write images. options: what Pillow's `save` is given. side, text: the largest side in pixels and the
    longest text in UTF-16 units that its files hold, None = no limit worth naming. alpha: it holds transparency."""

    name: str
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    side: int | None = None
    text: int | None = None
    alpha: bool = True


_PNG = Format("PNG")
_JPEG = Format("JPEG", {"quality": 95, "subsampling": "4:4:4"}, side=65_500, text=32_737, alpha=False)
_WEBP = Format("WebP", {"lossless": True, "exact": True}, side=16_383)
_AVIF = Format("AVIF", {"quality": 95, "subsampling": "4:4:4", "speed": 8}, side=65_536)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG, ".webp": _WEBP, ".avif": _AVIF}
)
"""By suffix. WebP is lossless: its lossy form always halves the resolution of colours, and lossless it is still smaller
than PNG, so that images can be compared to the pixel. JPEG and AVIF keep colours at full resolution (4:4:4), since
edges of saturated colours are what subsampling spoils first; AVIF's speed 8 of 10 halves the time of the default."""

OTHER_FORMATS = frozenset({".gif", ".bmp", ".tif", ".tiff", ".jxl", ".jp2", ".heic", ".ico", ".tga", ".ppm"})
NUMBERED = re.compile(r"(\d{5,})\b.*\.(?:png|jpe?g|webp|avif)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the images of one request go.

    A folder takes numbered names (00001-SEED.png, counting on from what is there, never replacing a file). A file name
    takes the image, replacing what stood there; several images are numbered before the suffix (cat-1.png, …).
    suffix: a key of FORMATS, which says how images are written.
    """

    folder: Path
    file: str | None = None
    suffix: str = SUFFIX

    @classmethod
    def of(cls, output: str, suffix: str = SUFFIX) -> Destination:
        """A name that ends in .png, .jpg, .jpeg, .webp or .avif is a file of that format, any other a folder.

        suffix: how the images of a folder are written. Raises BadInput for other image formats, and for one that
        this Pillow cannot write, BadFile for a name that the system refuses.
        """
        path = expanded(output)
        if reachable(path).is_dir() or output.endswith(("/", os.sep)):
            return cls(path, None, _known(suffix))
        ending = path.suffix.lower()
        if ending in OTHER_FORMATS:
            raise BadInput(f"{output}: images are written as PNG, JPEG, WebP or AVIF: use {path.with_suffix(SUFFIX)}")
        return cls(path.parent, path.name, _known(ending)) if ending in FORMATS else cls(path, None, _known(suffix))

    def prepare(self) -> tuple[Path, ...]:
        """Makes the folder and proves that a file can be written there; returns the folders that had to be made, the
        innermost first. Raises BadFile or StorageFull, leaving none of them."""
        missing = _missing(self.folder)
        try:
            self._make_usable()
        except BaseException:
            remove_empty(missing)
            raise
        return missing

    def _make_usable(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
        except OSError as error:
            raise BadFile(
                self.folder, f"cannot be used for images ({error.strerror}): choose another folder"
            ) from error
        probe = self.folder / f".tmp-{os.urandom(16).hex()}"
        try:
            write(probe, b"\0")
        except StorageFull as error:
            raise StorageFull(f"{self.folder}: the disk is full; free some space or choose another folder") from error
        except BadFile as error:
            raise BadFile(self.folder, f"{error.problem}: choose another folder") from error
        probe.unlink()

    def save(self, image: Image, infotext: str, *, index: int, count: int, seed: int) -> Path:
        """Writes image `index` (0-based) of `count`; returns where it lies.

        Raises BadFile or StorageFull, and BadInput as `encoded` does; nothing is left half-written.
        """
        return self.put(encoded(image, infotext, self.suffix), index=index, count=count, seed=seed)

    def put(self, data: bytes, *, index: int, count: int, seed: int) -> Path:
        """Writes a file of this format that is complete already, as `save` does."""
        if self.file is None:
            return _write_numbered(self.folder, f"-{seed}{self.suffix}", data)
        name = Path(self.file)
        path = self.folder / (self.file if count == 1 else f"{name.stem}-{index + 1}{name.suffix}")
        write(path, data)
        return path


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes those of the folders, innermost first, in which nothing is."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def write(path: Path, data: bytes) -> None:
    """Writes a whole file, replacing what stood there, or nothing; makes its folder. Raises BadFile or StorageFull."""
    _make(path.parent)
    with new_file(path) as file:
        file.write(data)


def write_png(path: Path, image: Image) -> None:
    """Writes an image without an infotext, as `write` does."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write(path, buffer.getvalue())


def encoded(image: Image, infotext: str, suffix: str = SUFFIX, *, carried: Mapping[str, object] | None = None) -> bytes:
    """The bytes of an image file that carries the text: PNG in its chunk `parameters` (tEXt for Latin-1, iTXt beyond),
    the other formats in the EXIF UserComment.

    suffix: a key of FORMATS. carried: what Pillow's `save` is given in place of that text, which it says too. Raises
    BadInput for a text or an image that the format cannot hold: a JPEG holds 64 KiB of EXIF, 32,737 characters of most
    scripts, 65,500 pixels a side and no transparency.
    """
    kind = FORMATS[_known(suffix)]
    check_fits(image, infotext, kind)
    buffer = io.BytesIO()
    said = save_options(kind.name, infotext) if carried is None else carried
    image.save(buffer, format=kind.name, **kind.options, **said)
    return buffer.getvalue()


def _known(suffix: str) -> str:
    """The suffix in lower case. Raises BadInput if it is none of FORMATS, or this Pillow cannot write its format."""
    from PIL import Image

    key = suffix.lower()
    if key not in FORMATS:
        raise BadInput(f"images are not written as {suffix!r}: use one of {', '.join(FORMATS)}")
    Image.init()
    if FORMATS[key].name.upper() not in Image.SAVE:
        raise BadInput(f"the installed Pillow cannot write {FORMATS[key].name}: use .png, or update Pillow")
    return key


def check_fits(image: Image, infotext: str, kind: Format) -> None:
    """Raises BadInput for a text or an image that files of the format cannot hold."""
    units = len(infotext.encode("utf-16-be", "surrogatepass")) // 2
    if kind.text is not None and units > kind.text:
        raise BadInput(
            f"the infotext is too long for a {kind.name} ({units} of at most {kind.text} characters): "
            "save as PNG, WebP or AVIF"
        )
    if kind.side is not None and max(image.size) > kind.side:
        raise BadInput(
            f"a {kind.name} has at most {kind.side} pixels a side, the image has {max(image.size)}: save as PNG"
        )
    if not kind.alpha and image.mode not in {"RGB", "L"}:
        raise BadInput(f"a {kind.name} cannot hold an image of mode {image.mode}: save as PNG, WebP or AVIF")


def _write_numbered(folder: Path, ending: str, data: bytes) -> Path:
    number = _next_number(folder)
    while True:
        path = folder / f"{number:05d}{ending}"
        try:
            with new_file(path, replace=False) as file:
                file.write(data)
        except FileExistsError:
            number += 1
        else:
            return path


def _missing(folder: Path) -> tuple[Path, ...]:
    """Those of the folder and the folders that it lies in which do not exist, the innermost first."""
    return tuple(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(folder, f"cannot be made a folder ({error.strerror}): choose another place") from error


def _next_number(folder: Path) -> int:
    numbers = (int(found[1]) for path in _entries(folder) if (found := NUMBERED.match(path.name)))
    return 1 + max(numbers, default=0)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise BadFile(folder, f"cannot be read ({error.strerror}): choose another folder") from error
