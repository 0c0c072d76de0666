"""Files of textual inversions: learned vectors that stand for a word (Gal 2022, arXiv:2208.01618).

A1111's and the original `.pt`, one tensor in safetensors, diffusers' file with the word as the name, pairs for two text
encoders, images that carry one, and files of weight adapters that bring some (docs/networks.md).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from atelier.adapters import hidden
from atelier.errors import BadFile
from atelier.weights.archive import Archive, open_any, renamed
from atelier.weights.formats.safetensors import FLOATS

IMAGES, FORMATS = (".png", ".webp"), ("PNG", "WEBP")
CHUNK = "sd-ti-embedding"
"""The text of an image that holds one: base64 of JSON. Where it was lost, the pixels hold the same JSON."""
TENSOR = "TORCHTENSOR"
PARAMETERS = "string_to_param"
BUNDLED = "bundle_emb."
"""What stands before the name of one that comes with a weight adapter, and before a dot and its parts."""
MOST_NAMES = 10_000
"""Of images that are remembered."""
MAX_NUMBERS = 1_000_000
"""More than any vectors that fit into a prompt."""
_NUMBERED = re.compile(r"_(\d{1,4})$")


@dataclass(frozen=True, slots=True)
class Embedding:
    """vectors: (count, width) float32 for each text encoder that the file has some for, by the file's names of them."""

    path: Path
    vectors: Mapping[str, Tensor]

    def fitting(self, widths: Sequence[int]) -> tuple[Tensor, ...] | None:
        """For each text encoder, of these widths, its vectors; None where the file has none for one of them, or not as
        many for each."""
        found = [next((own for own in self.vectors.values() if own.shape[1] == width), None) for width in widths]
        there = tuple(own for own in found if own is not None)
        return there if len(there) == len(widths) and len({len(own) for own in there}) == 1 else None

    @property
    def widths(self) -> str:
        """As in "768 and 1280"."""
        return " and ".join(str(own.shape[1]) for own in self.vectors.values())


def read_embedding(path: Path, name: str | None = None) -> Embedding:
    """The textual inversion of a file; of the several that a weight adapter brings, the one called `name`. Raises
    BadFile for what cannot be read, or is none."""
    return Embedding(path, _of_image(path) if path.suffix.casefold() in IMAGES else _of_archive(path, name))


def bundled(archive: Archive) -> tuple[str, ...]:
    """The names of the textual inversions that a weight adapter brings."""
    own = (name.removeprefix(BUNDLED) for name in archive.tensors if name.startswith(BUNDLED))
    return tuple(dict.fromkeys(rest.partition(".")[0] for rest in own if rest.partition(".")[2]))


def stored_name(path: Path) -> str | None:
    """What an image's textual inversion is called; None where the image carries none, or cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _named(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=MOST_NAMES)
def _named(path: Path, _changed: int, _size: int) -> str | None:
    """Remembered, since to look into the pixels takes a while, and most images there are pictures of something."""
    try:
        found = _in_image(path)
    except BadFile:
        return None
    return None if found is None else str(found.get("name") or path.stem)


def _of_archive(path: Path, called: str | None) -> dict[str, Tensor]:
    archive = open_any(path)
    if called is not None and called in bundled(archive):
        own = f"{BUNDLED}{called}."
        archive = renamed(archive, {n.removeprefix(own): n for n in archive.tensors if _is_input(n, own)})
    names = [name for name, info in archive.tensors.items() if info.dtype in FLOATS and len(info.shape) in {1, 2}]
    own = [name for name in names if name.startswith(f"{PARAMETERS}.")] or _inputs(names)
    if not own or sum(archive.tensors[name].count for name in own) > MAX_NUMBERS:
        raise BadFile(path, "is no textual inversion: it should hold a few vectors, as wide as a model's text encoder")
    return _joined(path, archive.load(own, dtype=torch.float32, mapped=False))


def _inputs(names: Sequence[str]) -> Sequence[str]:
    """Without what OneTrainer keeps beside the vectors of each text encoder: what it says of them."""
    return [name for name in names if not name.endswith("_out") or name.removesuffix("_out") not in names]


def _is_input(name: str, beginning: str) -> bool:
    """Whether a tensor is what the text encoder reads; some trainings also keep what it says."""
    return name.startswith(beginning) and not name.endswith("_out")


def _joined(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rows that are kept one by one, called `<word>`, `<word>_1`, …, put together."""
    rows = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 1}
    whole = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 2}
    if rows:
        if len({len(row) for row in rows.values()}) > 1:
            raise BadFile(path, "is no textual inversion: its vectors are of different lengths")
        whole[min(rows, key=_number)] = torch.stack([rows[name] for name in sorted(rows, key=_number)])
    if not all(tensor.numel() and bool(tensor.isfinite().all()) for tensor in whole.values()):
        raise BadFile(path, "has vectors that are empty or no finite numbers: it is damaged, get it again")
    return whole


def _number(name: str) -> int:
    found = _NUMBERED.search(name)
    return int(found[1]) if found else 0


def _of_image(path: Path) -> dict[str, Tensor]:
    found = _in_image(path)
    parameters = None if found is None else found.get(PARAMETERS)
    if not isinstance(parameters, dict):
        raise BadFile(path, "carries no textual inversion: it is a plain image")
    tensors = cast("dict[str, object]", parameters)
    return _joined(path, {name: _tensor(path, value) for name, value in tensors.items()})


def _in_image(path: Path) -> dict[str, object] | None:
    """What the image's text says, or else its pixels; None where they say nothing. Raises BadFile."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            text = cast("object", image.info.get(CHUNK))
            packed = None if isinstance(text, str | bytes) else hidden.packed(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadFile(path, "cannot be read as an image") from error
    if packed is None and not isinstance(text, str | bytes):
        return None
    try:
        data = base64.b64decode(text) if isinstance(text, str | bytes) else hidden.unpacked(packed or b"")
        found = cast("object", json.loads(data))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise BadFile(path, "carries a textual inversion that is damaged: get it again") from error
    return cast("dict[str, object]", found) if isinstance(found, dict) else None


def _tensor(path: Path, value: object) -> Tensor:
    numbers = cast("dict[str, object]", value).get(TENSOR) if isinstance(value, dict) else None
    try:
        tensor = torch.tensor(numbers, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise BadFile(path, "carries a textual inversion that is damaged: get it again") from error
    if tensor.ndim not in {1, 2} or tensor.numel() > MAX_NUMBERS:
        raise BadFile(path, "carries no vectors of a textual inversion")
    return tensor
