"""Finding upscalers: by name among those that need no file, and in files by what their tensors are called."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import atelier.vision.upscalers
import atelier.vision.upscalers.files
from atelier.errors import BadFile, BadInput
from atelier.registry import discover
from atelier.vision import foreign
from atelier.vision.networked import Networked
from atelier.vision.tiles import MARGIN
from atelier.vision.upscaling import FileKind, Filter
from atelier.weights.archive import Archive, Stored, open_any

if TYPE_CHECKING:
    import torch

FOREIGN = ("lora_", "model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "text_model.", "down_blocks.")
"""What names of tensors begin with that are a generating model's or an adapter's, and certainly no upscaler's."""
PREFIXES = ("", "generator.", "netG.")
"""What training programs put before the names of all tensors."""


@cache
def filters() -> Mapping[str, Filter]:
    """The upscalers that need no file, by name."""
    return discover(atelier.vision.upscalers, Filter)


@cache
def file_kinds() -> Mapping[str, FileKind]:
    """The architectures that are built in, by name."""
    return discover(atelier.vision.upscalers.files, FileKind)


def open_upscaler(
    path: Path, device: torch.device, dtype: torch.dtype, *, name: str | None = None, tile: int | None = None
) -> Networked:
    """The upscaler in a file. name: what infotexts call it, else the file's name; tile: see `Networked`.

    Raises BadFile with one line for what is no file, broken, or no upscaler that can be read here, BadInput for a tile
    that is too small.
    """
    if tile is not None and tile <= 2 * MARGIN:
        raise BadInput(f"tile {tile}: it needs more than {2 * MARGIN} pixels, the surroundings of what is kept of it")
    stored, kind = _told(open_any(path))
    load = foreign.load if kind is None else kind.load
    return Networked(name or path.stem, load(stored, device, dtype), tile, path)


def architecture(path: Path) -> str | None:
    """What the built-in network for a file is called; None for another kind. Reads the header. Raises BadFile."""
    kind = _told(open_any(path))[1]
    return None if kind is None else kind.name


def _told(archive: Archive) -> tuple[Stored, FileKind | None]:
    """The tensors without what stands before all of their names, and which of our networks they are."""
    prefix = next(p for p in reversed(PREFIXES) if all(name.startswith(p) for name in archive.tensors))
    if any(name.startswith(FOREIGN) for name in archive.tensors):
        raise BadFile(archive.path, "is no upscaler: it is a model or an adapter that generates images")
    stored = Stored(archive, "ldm", prefix)
    names = stored.shapes().keys()
    return stored, next((kind for kind in file_kinds().values() if kind.detect(names)), None)
