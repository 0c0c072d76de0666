"""The tensors of one network or checkpoint, whatever format they lie in, in one file or in several."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

from atelier.errors import BadFile
from atelier.weights.formats import safetensors, torch_file
from atelier.weights.formats.safetensors import Header, shown
from atelier.weights.formats.text import read_text
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_INDEX = 20_000_000
SHARDS = (".safetensors", ".bin")
"""What the names of shards end with."""
INDEXES = tuple(f"{ending}.index.json" for ending in SHARDS)


class TensorInfo(Protocol):
    """What is known of a tensor before it is read. dtype: as safetensors calls it (F16, …)."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def count(self) -> int:
        """Number of elements."""
        ...

    @property
    def bytes(self) -> int:
        """Of its elements on disk."""
        ...


class Archive(Protocol):
    """Tensors on disk, of which only the names, dtypes and shapes have been read. `path`: what to name in messages."""

    @property
    def path(self) -> Path: ...

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, in an order that does not change."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says beside its tensors."""
        ...

    def load(
        self,
        names: Iterable[str],
        *,
        dtype: torch.dtype | None = None,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> dict[str, Tensor]:
        """The named tensors, floating ones cast to `dtype`.

        mapped: what needs no change may stay in the file until it is touched. channels_last: kernels (4 dimensions)
        lie channel last in memory. Raises BadFile where the files have changed since.
        """
        ...


@dataclass(frozen=True, slots=True)
class Safetensors:
    """An `Archive`: one safetensors file."""

    path: Path
    header: Header

    @property
    def tensors(self) -> Mapping[str, safetensors.TensorInfo]:
        return self.header.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.header.metadata

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def load(
        self,
        names: Iterable[str],
        *,
        dtype: torch.dtype | None = None,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> dict[str, Tensor]:
        """See `safetensors.load`."""
        return safetensors.load(self.header, names, dtype=dtype, mapped=mapped, channels_last=channels_last)


@dataclass(frozen=True, slots=True)
class Shards:
    """An `Archive`: several files read as one, each tensor of which lies in one of them. path: the index."""

    path: Path
    shards: tuple[Archive, ...]
    tensors: Mapping[str, TensorInfo]

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.shards[0].metadata

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for shard in self.shards for file in shard.files)

    def load(
        self,
        names: Iterable[str],
        *,
        dtype: torch.dtype | None = None,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> dict[str, Tensor]:
        """Each tensor from the file that has it."""
        wanted = set(names)
        loaded: dict[str, Tensor] = {}
        for shard in self.shards:
            here = [name for name in shard.tensors if name in wanted]
            loaded |= shard.load(here, dtype=dtype, mapped=mapped, channels_last=channels_last)
        return loaded


@dataclass(frozen=True, slots=True)
class Renamed:
    """An `Archive` whose tensors go by other names; made by `renamed`. stored: what each is called in `archive`."""

    archive: Archive
    stored: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]

    @property
    def path(self) -> Path:
        return self.archive.path

    @property
    def files(self) -> tuple[Path, ...]:
        return self.archive.files

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.archive.metadata

    def load(
        self,
        names: Iterable[str],
        *,
        dtype: torch.dtype | None = None,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> dict[str, Tensor]:
        """The tensors under their names here."""
        wanted = {name: self.stored[name] for name in names}
        found = self.archive.load(wanted.values(), dtype=dtype, mapped=mapped, channels_last=channels_last)
        return {name: found[stored] for name, stored in wanted.items()}


@dataclass(frozen=True, slots=True)
class TorchFile:
    """An `Archive`: a file that torch.save wrote. It is never unpickled."""

    path: Path
    header: torch_file.TorchHeader

    @property
    def tensors(self) -> Mapping[str, torch_file.TorchInfo]:
        return self.header.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.header.metadata

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def load(
        self,
        names: Iterable[str],
        *,
        dtype: torch.dtype | None = None,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> dict[str, Tensor]:
        """See `torch_file.load`."""
        return torch_file.load(self.header, names, dtype=dtype, mapped=mapped, channels_last=channels_last)


def renamed(archive: Archive, stored: Mapping[str, str]) -> Archive:
    """The archive with the tensors that `stored` names, by its keys; its values are their names in the archive."""
    tensors = {name: archive.tensors[there] for name, there in stored.items()}
    return Renamed(archive, stored, MappingProxyType(tensors))


WRAPPERS = ("module.", "state_dict.", "_orig_mod.")
"""What programs that train on several devices, conversions and torch.compile put before the names of all tensors."""


def open_any(path: Path) -> Archive:
    """A safetensors file or one of torch.save, told apart by what they begin with; shards by their index. Its tensors
    go by their names without the WRAPPERS. Raises BadFile."""
    return _unwrapped(_open(path))


def _open(path: Path) -> Archive:
    if path.name.endswith(INDEXES) and path.is_file():
        return _shards(path)
    if torch_file.is_torch_file(path):
        return TorchFile(path, torch_file.read_header(path))
    return open_file(path)


def _unwrapped(archive: Archive) -> Archive:
    names, cut = archive.tensors.keys(), 0
    while names and (own := next((w for w in WRAPPERS if all(n.startswith(w, cut) for n in names)), "")):
        cut += len(own)
    return renamed(archive, {name[cut:]: name for name in names}) if cut else archive


def open_file(path: Path) -> Archive:
    """A safetensors file. Raises BadFile as `read_header` does."""
    return Safetensors(path, safetensors.read_header(path))


def open_index(path: Path) -> Archive:
    """The shards that a `*.safetensors.index.json` or `*.bin.index.json` lists; they must lie beside it and hold what
    it says. Names are those of `open_any`.

    Raises BadFile for an index that points elsewhere, names what is not there, or disagrees with its shards.
    """
    return _unwrapped(_shards(path))


def _shards(path: Path) -> Shards:
    placed = _weight_map(path)
    shards = tuple(_open(path.parent / shard) for shard in sorted(set(placed.values())))
    tensors: dict[str, TensorInfo] = {}
    for shard in shards:
        for name, info in shard.tensors.items():
            if placed.get(name) != shard.path.name:
                raise BadFile(path, f"does not place {shown(name)} in {shard.path.name}, where it lies")
            tensors[name] = info
    missing = [name for name in placed if name not in tensors]
    if missing:
        raise BadFile(path, f"places {shown(missing[0])} in {shown(placed[missing[0]])}, which does not hold it")
    return Shards(path, shards, MappingProxyType(tensors))


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
        found = cast("object", json.loads(read_text(path)))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, "is no readable index of shards") from error
    table = cast("dict[str, object]", found).get("weight_map") if isinstance(found, dict) else None
    if not isinstance(table, dict) or not table:
        raise BadFile(path, "has no weight_map")
    for shard in cast("dict[str, object]", table).values():
        if not isinstance(shard, str) or not _plain(shard):
            raise BadFile(path, f"points to {shown(str(shard))}, which is no file of weights beside it")
    return cast("dict[str, str]", table)


def _plain(name: str) -> bool:
    return name.endswith(SHARDS) and name.isprintable() and not any(mark in name for mark in "/\\:")
