"""Training images for the tests of teaching: drawn, saved, and packed into shards."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def save(path: Path, size: tuple[int, int] = (64, 64), colour: str = "red", caption: str | None = None) -> Path:
    """An image of one colour, with its caption beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def encoded(size: tuple[int, int] = (64, 64), colour: str = "red") -> bytes:
    """The bytes of a PNG."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    """A shard of these files, in this order."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
