"""Which images lie in a folder already, by what they say and by their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from atelier.request.infotext import Settings, pixel_hash, read, write
from atelier.request.infotext.image import TEXT_KEY

SUFFIX = ".png"


def made(folder: Path, wanted: Iterable[Settings]) -> dict[Settings, Path]:
    """The PNG files of a folder that are the images wanted: the infotext is what it would be now, and the pixels have
    the hash that it says. What cannot be read is no image. wanted: without hashes of pixels.
    """
    texts = {write(settings): settings for settings in wanted}
    seeds = {f"Seed: {settings.seed}," for settings in texts.values()}
    found: dict[Settings, Path] = {}
    for path, text, hash_ in _infotexts(folder, seeds):
        settings = texts.get(text)
        if settings is not None and settings not in found and _hash(path) == hash_:
            found[settings] = path
    return found


def load(path: Path) -> Image.Image:
    """The image, in RGB. Raises OSError."""
    with Image.open(path) as image:
        return image.convert("RGB")


def _infotexts(folder: Path, seeds: set[str]) -> Iterator[tuple[Path, str, str]]:
    """(path, infotext without the hash of the pixels, that hash)."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        text = _text(path)
        if not any(seed in text for seed in seeds):
            continue
        hash_ = read(text).get("Pixel hash")
        if hash_ is not None:
            before, _, after = text.rpartition(f", Pixel hash: {hash_}")
            yield path, before + after, hash_


def _text(path: Path) -> str:
    try:
        with Image.open(path) as image:
            return str(image.info.get(TEXT_KEY, ""))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return ""


def _hash(path: Path) -> str | None:
    try:
        return pixel_hash(load(path))
    except (OSError, SyntaxError, ValueError):
        return None


def without_hash(settings: Settings) -> Settings:
    """What `made` compares."""
    return replace(settings, pixel_hash=None)
