"""The tensors of one network or checkpoint, whether they lie in one file or in several."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from atelier.errors import BadFile
from atelier.weights.formats import safetensors
from atelier.weights.formats.safetensors import Header, TensorInfo, shown
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_INDEX = 20_000_000


@dataclass(frozen=True, slots=True)
class Archive:
    """Headers of one or several files read as one. `path` is what to name in messages."""

    path: Path
    headers: tuple[Header, ...]
    tensors: Mapping[str, TensorInfo]

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.headers[0].metadata

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(header.path for header in self.headers)

    def load(
        self,
        names: Iterable[str],
        *,
        dtype: torch.dtype | None = None,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> dict[str, Tensor]:
        """The named tensors, floating ones cast to `dtype`; see `safetensors.load`."""
        wanted = set(names)
        loaded: dict[str, Tensor] = {}
        for header in self.headers:
            here = [name for name in header.tensors if name in wanted]
            loaded |= safetensors.load(header, here, dtype=dtype, mapped=mapped, channels_last=channels_last)
        return loaded


def open_file(path: Path) -> Archive:
    """Raises BadFile as `read_header` does."""
    header = safetensors.read_header(path)
    return Archive(path, (header,), header.tensors)


def open_index(path: Path) -> Archive:
    """The shards that a `*.safetensors.index.json` lists; they must lie beside it and hold what it says.

    Raises BadFile for an index that points elsewhere, names what is not there, or disagrees with its shards.
    """
    placed = _weight_map(path)
    headers = tuple(safetensors.read_header(path.parent / shard) for shard in sorted(set(placed.values())))
    tensors: dict[str, TensorInfo] = {}
    for header in headers:
        for name, info in header.tensors.items():
            if placed.get(name) != header.path.name:
                raise BadFile(path, f"does not place {shown(name)} in {header.path.name}, where it lies")
            tensors[name] = info
    missing = [name for name in placed if name not in tensors]
    if missing:
        raise BadFile(path, f"places {shown(missing[0])} in {shown(placed[missing[0]])}, which does not hold it")
    return Archive(path, headers, MappingProxyType(tensors))


Tolerated = Callable[[str], bool]


def _nothing(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Stored:
    """One part of a checkpoint as it lies on disk: the tensors of `archive` whose names begin with `prefix`.

    tolerated: which of them, by full name, may be left unread.
    """

    archive: Archive
    layout: Layout
    prefix: str = ""
    tolerated: Tolerated = field(default=_nothing)

    def infos(self) -> dict[str, TensorInfo]:
        """What the headers say of each tensor, by name without the prefix, tolerated ones left out."""
        cut, tensors = len(self.prefix), self.archive.tensors
        return {n[cut:]: tensors[n] for n in tensors if n.startswith(self.prefix) and not self.tolerated(n)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: info.shape for name, info in self.infos().items()}


WAY_OUT = "it is damaged or of another kind: get it again, or choose another"


def counted(names: Collection[str]) -> str:
    """As in "3 tensors (a, b, c)": the count and the first three names."""
    first = [shown(name) for name in sorted(names)[:3]]
    listed = ", ".join(first) + (", …" if len(names) > 3 else "")
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'} ({listed})"


def _weight_map(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > MAX_INDEX:
            raise BadFile(path, "is too large for an index of shards")
        found = cast("object", json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, "is no readable index of shards") from error
    table = cast("dict[str, object]", found).get("weight_map") if isinstance(found, dict) else None
    if not isinstance(table, dict) or not table:
        raise BadFile(path, "has no weight_map")
    for shard in cast("dict[str, object]", table).values():
        if not isinstance(shard, str) or not _plain(shard):
            raise BadFile(path, f"points to {shown(str(shard))}, which is no safetensors file beside it")
    return cast("dict[str, str]", table)


def _plain(name: str) -> bool:
    return name.endswith(".safetensors") and name.isprintable() and not any(mark in name for mark in "/\\:")
