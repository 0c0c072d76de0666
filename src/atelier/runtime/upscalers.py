"""Upscalers by the names that users type: built in, or a file of theirs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.errors import AtelierError, BadFile, BadInput, UnknownName
from atelier.registry import folded
from atelier.runtime.library import UPSCALER_FILES, Library
from atelier.vision.catalogue import filters, open_upscaler
from atelier.vision.upscaling import Filter, Upscaler

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
OWN_FOLDER = "upscalers"
"""Below a folder of models: where upscalers go, of all the names that such a folder may have."""


@dataclass(frozen=True, slots=True)
class UpscalerFile:
    """An upscaler that lies in a file. name: what infotexts call it."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class UpscalerNames:
    """What upscalers are called. library: where their files are."""

    library: Library

    def names(self) -> tuple[str, ...]:
        """All of them: the filters, then the files, under A1111's name where it has one."""
        friendly = {folded(stem): name for name, stem in A1111.items()}
        return (*filters(), *(friendly.get(folded(stem), stem) for stem in self.library.upscalers()))

    def find(self, name: str) -> Filter | UpscalerFile | None:
        """What has a name or A1111's name, or lies in a file of that path; a path that exists is meant before any name,
        and a file that is called as A1111 calls another before that other.

        None if there is no such thing. Opens no file.
        """
        if (
            self.library.by_path
            and (path := Path(name).expanduser()).suffix.lower() in UPSCALER_FILES
            and _is_file(path)
        ):
            return UpscalerFile(path.stem, path)
        for spec in filters().values():
            if folded(name) in map(folded, (spec.name, *spec.aliases)):
                return spec
        files = {folded(file): (file, path) for file, path in reversed(tuple(self.library.upscalers().items()))}
        friendly, stem = self._published(name)
        for wanted in (name, stem):
            if folded(wanted) in files:
                file, path = files[folded(wanted)]
                known = next((known for known in A1111 if folded(A1111[known]) == folded(file)), file)
                return UpscalerFile(friendly or known, path)
        return None

    def place(self, name: str) -> str:
        """Where the file of an upscaler is looked for, to say to a user: which file, and in which folders."""
        friendly, stem = self._published(name)
        folders = ", ".join(str(folder / OWN_FOLDER) for folder in self.library.folders if self.library.by_path)
        file = "its file" if friendly is None else f"{stem}.pth"
        return f"put {file} into {'one of ' if ',' in folders else ''}{folders or OWN_FOLDER}"

    def _published(self, name: str) -> tuple[str | None, str]:
        """(A1111's name of a published file if it is one, what its file is called)."""
        friendly = next((known for known in A1111 if folded(known) == folded(name)), None)
        return friendly, name if friendly is None else A1111[friendly]


@dataclass(frozen=True, slots=True)
class Upscalers:
    """The upscalers that there are, ready for a device."""

    known: UpscalerNames
    device: torch.device
    dtype: torch.dtype

    def names(self) -> tuple[str, ...]:
        """See `UpscalerNames.names`."""
        return self.known.names()

    def get(self, name: str, *, tile: int | None = None) -> Upscaler:
        """The upscaler of a name, see `UpscalerNames.find`. Reads the whole file.

        tile: the largest side of a tile in pixels. Raises UnknownName with the nearest names, and BadInput or BadFile
        for a file that is not there or is no upscaler.
        """
        found = self.known.find(name)
        if found is None:
            raise self._missing(name)
        if isinstance(found, Filter):
            return found
        return open_upscaler(found.path, self.device, self.dtype, name=found.name, tile=tile)

    def _missing(self, name: str) -> AtelierError:
        friendly = next((known for known in A1111 if folded(known) == folded(name)), None)
        if friendly is not None:
            told = f"upscaler {friendly}: its file {A1111[friendly]}.pth is not there"
            return BadInput(f"{told}: {self.known.place(name)}")
        if self.known.library.by_path and (os.sep in name or Path(name).suffix.lower() in UPSCALER_FILES):
            return BadFile(name, "there is no such file; `atelier upscale --list` shows the upscalers by name")
        return UnknownName("upscaler", name, self.names())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
