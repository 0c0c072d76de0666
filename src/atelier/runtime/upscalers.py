"""Upscalers by the names that users type: built in, or a file of theirs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.errors import BadFile, BadInput, UnknownName
from atelier.registry import folded
from atelier.runtime.library import UPSCALER_FILES
from atelier.vision.catalogue import filters, open_upscaler
from atelier.vision.upscaling import Upscaler

if TYPE_CHECKING:
    import torch

A1111: Mapping[str, str] = MappingProxyType(
    {
        "R-ESRGAN 4x+": "RealESRGAN_x4plus",
        "R-ESRGAN 4x+ Anime6B": "RealESRGAN_x4plus_anime_6B",
        "R-ESRGAN 2x+": "RealESRGAN_x2plus",
        "R-ESRGAN General 4xV3": "realesr-general-x4v3",
        "R-ESRGAN General WDN 4xV3": "realesr-general-wdn-x4v3",
        "R-ESRGAN AnimeVideo": "realesr-animevideov3",
        "SwinIR 4x": "SwinIR_4x",
        "DAT x2": "DAT_x2",
        "DAT x3": "DAT_x3",
        "DAT x4": "DAT_x4",
    }
)
"""What A1111 calls published files, by name; infotexts say it (docs/upscaling.md)."""


@dataclass(frozen=True, slots=True)
class Upscalers:
    """The upscalers that there are. files: those of users, by the name of the file."""

    files: Mapping[str, Path]
    device: torch.device
    dtype: torch.dtype

    def names(self) -> tuple[str, ...]:
        """All of them: the filters, then the files, under A1111's name where it has one."""
        friendly = {folded(stem): name for name, stem in A1111.items()}
        return (*filters(), *(friendly.get(folded(stem), stem) for stem in self.files))

    def get(self, name: str, *, tile: int | None = None) -> Upscaler:
        """The upscaler of a name, of A1111's name, or in a file; a path that exists is meant before any name.

        Reads the whole file. tile: the largest side of a tile in pixels. Raises UnknownName with the nearest names, and
        BadInput or BadFile for a file that is not there or is no upscaler.
        """
        path = Path(name).expanduser()
        if path.suffix.lower() in UPSCALER_FILES and _is_file(path):
            return open_upscaler(path, self.device, self.dtype, tile=tile)
        for spec in filters().values():
            if folded(spec.name) == folded(name):
                return spec
        named, found = self._find(name)
        return open_upscaler(found, self.device, self.dtype, name=named, tile=tile)

    def _find(self, name: str) -> tuple[str, Path]:
        """(what infotexts call it, its file)."""
        friendly = next((known for known in A1111 if folded(known) == folded(name)), None)
        stem = name if friendly is None else A1111[friendly]
        for file, path in self.files.items():
            if folded(file) == folded(stem):
                called = friendly or next((known for known in A1111 if folded(A1111[known]) == folded(file)), file)
                return called, path
        if friendly is not None:
            raise BadInput(f"upscaler {friendly}: its file {stem}.pth is not there: put it into models/upscalers")
        if os.sep in name or Path(name).suffix.lower() in UPSCALER_FILES:
            raise BadFile(name, "there is no such file; `atelier upscale --list` shows the upscalers by name")
        raise UnknownName("upscaler", name, self.names())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
