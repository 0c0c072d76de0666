"""The files that torch.save writes (.pth, .pt, .ckpt, .bin), read without ever unpickling them: tensors alone.

Since torch 1.6 they are a zip archive of one pickle and of the bytes of every storage; before, pickles one after the
other and the storages behind them. The pickle is walked by `pickle_walk`, which calls and imports nothing. What it says
of tensors is believed only where it agrees with the bytes that are there.
"""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, cast
from zlib import crc32

from atelier.errors import BadFile
from atelier.weights.formats import safetensors
from atelier.weights.formats.pickle_walk import Global, Malformed, Opaque, ParameterDict, Persistent, TensorRef, walk
from atelier.weights.formats.safetensors import (
    ITEM_BYTES,
    MAX_DIMENSIONS,
    MAX_TENSORS,
    TORCH_NAMES,
    Source,
    Wanted,
    shown,
)
from atelier.weights.formats.stamps import Stamp, opened, stamp_of
from atelier.weights.formats.stored_zip import Ambiguous, Entry, entries

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number that files of torch before 1.6 begin with."""
MAX_PICKLE = 32_000_000
MAX_REPEATED = 2
"""How many times the bytes of the file its tensors may have together: names share storages, bombs share them all."""
WRAPPERS = ("state_dict", "params_ema", "params", "model", "adapter", "module")
"""Where training programs put the weights among other things, in the order in which they are looked for."""
_DEEPEST = 3
_MAX_NOTED = 1000

_ENTRY = re.compile(
    r"[^/]+/(data\.pkl|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment|data/\d+)"
)
_STORAGES: Mapping[Global, str] = MappingProxyType(
    {
        Global("torch", f"{name}Storage"): dtype
        for name, dtype in (
            ("Float", "F32"),
            ("Half", "F16"),
            ("BFloat16", "BF16"),
            ("Double", "F64"),
            ("Long", "I64"),
            ("Int", "I32"),
            ("Short", "I16"),
            ("Char", "I8"),
            ("Byte", "U8"),
            ("Bool", "BOOL"),
        )
    }
    | {Global("torch.storage", "UntypedStorage"): "U8"}
)
_DTYPES: Mapping[Global, str] = MappingProxyType({Global("torch", name): kind for kind, name in TORCH_NAMES.items()})
"""Of tensors in storages of bytes: those that torch has had since it has no storages of their own (float8, …)."""
_LAYOUT = "is no file of weights as torch writes them"
_WHOLE_OBJECT = (
    "holds a whole object, which only unpickling could bring back, and no tensors by name: get its state_dict"
)


@dataclass(frozen=True, slots=True)
class TorchInfo:
    """One tensor: `start` and `end` are the bytes of the file that its elements span.

    stride: in elements, where they do not lie in order.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    stride: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * ITEM_BYTES[self.dtype]

    @property
    def span(self) -> safetensors.TensorInfo:
        """What is read of the file: the tensor itself, or all that its elements span as one row."""
        row = ((self.end - self.start) // ITEM_BYTES[self.dtype],)
        return safetensors.TensorInfo(self.dtype, self.shape if self.stride is None else row, self.start, self.end)


@dataclass(frozen=True, slots=True)
class TorchHeader:
    """What a file says, checked. metadata: the texts and numbers beside its tensors; stamp: as `safetensors.Header`."""

    path: Path
    tensors: Mapping[str, TorchInfo]
    metadata: Mapping[str, str]
    stamp: Stamp


class _Stored(NamedTuple):
    """A storage: its dtype, and where its bytes lie."""

    dtype: str
    start: int
    size: int


_Find = Callable[[str, str, int], _Stored]
"""(key, dtype, number of elements) -> the storage. Raises Malformed."""


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as those of torch.save do. Raises BadFile."""
    with opened(path) as file:
        first = file.read(len(LEGACY))
    return first.startswith(ZIP) or first == LEGACY


def read_header(path: str | Path) -> TorchHeader:
    """Reads what the file says of its tensors, nothing else. Raises BadFile with one line that says what is wrong."""
    path = Path(path)
    with opened(path) as file:
        return _header(path, file)


def load(
    header: TorchHeader,
    names: Iterable[str] | None = None,
    *,
    dtype: torch.dtype | None = None,
    mapped: bool = True,
    channels_last: bool = False,
) -> dict[str, Tensor]:
    """The tensors called `names`, as `safetensors.load` gives them; names that share a storage get copies.

    Raises BadFile when the file is no longer the one whose header was read.
    """
    infos = {name: header.tensors[name] for name in (header.tensors if names is None else names)}
    spans = {name: info.span for name, info in infos.items()}
    with opened(header.path) as file:
        if _header(header.path, file) != header:
            raise BadFile(header.path, "changed since it was opened; open it again")
        wanted = Wanted(dtype, mapped=mapped, channels_last=channels_last)
        tensors = Source(header.path, file, header.stamp, 0, wanted).tensors(spans)
    return {name: _ordered(tensors[name], info, wanted) for name, info in infos.items()}


def _ordered(tensor: Tensor, info: TorchInfo, wanted: Wanted) -> Tensor:
    """The elements in order, where the file has them in another."""
    import torch

    if info.stride is None:
        return tensor
    last = wanted.channels_last and len(info.shape) == 4
    order = torch.channels_last if last else torch.contiguous_format
    return tensor.as_strided(info.shape, info.stride).clone(memory_format=order)


def _header(path: Path, file: FileIO) -> TorchHeader:
    total = os.fstat(file.fileno()).st_size
    file.seek(0)
    first = file.read(len(LEGACY))
    try:
        if first.startswith(ZIP):
            value, find = _zipped(file, total)
        elif first == LEGACY:
            value, find = _legacy(file, total)
        else:
            raise BadFile(path, _LAYOUT)
        tensors = _tensors(value, find)
    except (Malformed, Ambiguous) as error:
        raise BadFile(path, str(error)) from error
    if sum(info.bytes for info in tensors.values()) > MAX_REPEATED * total:
        raise BadFile(path, "declares more tensors than it has bytes for")
    return TorchHeader(path, MappingProxyType(tensors), MappingProxyType(_noted(value)), stamp_of(file))


def _zipped(file: FileIO, total: int) -> tuple[object, _Find]:
    """(what the pickle says, where storages lie) of a zip archive."""
    found = entries(file, total)
    folder = next(iter(found), "").partition("/")[0]
    if any(name.endswith(("/constants.pkl", ".py")) for name in found):
        raise Malformed("is a TorchScript program, not weights: get the model's .pth or .safetensors file")
    for name in found:
        if not (_ENTRY.fullmatch(name) and name.startswith(f"{folder}/")):
            raise Malformed(f"{_LAYOUT}: it has the entry {shown(name)}")
    if f"{folder}/data.pkl" not in found:
        raise Malformed(f"{_LAYOUT}: it has no entry data.pkl")
    order = found.get(f"{folder}/byteorder")
    if order is not None and _bytes(file, order) != b"little":
        raise Malformed("was written on a machine of another byte order")

    def find(key: str, dtype: str, count: int) -> _Stored:
        entry = found.get(f"{folder}/data/{key}")
        if entry is None or entry.size != count * ITEM_BYTES[dtype]:
            raise Malformed(f"lacks the bytes of a tensor: the storage {shown(key)} is missing or of another size")
        return _Stored(dtype, entry.start, entry.size)

    entry = found[f"{folder}/data.pkl"]
    pickle = _bytes(file, entry)
    if crc32(pickle) != entry.crc:
        raise Malformed("is damaged: the checksum of what it says of its tensors is wrong: get it again")
    return walk(BytesIO(pickle)).value, find


def _legacy(file: FileIO, total: int) -> tuple[object, _Find]:
    """The same of a file from before torch 1.6: its number, a version, facts of the machine, the value, the keys of the
    storages, then each storage behind its length."""
    stream = BytesIO(_bytes(file, Entry(0, min(total, MAX_PICKLE))))
    _, version, machine, value, keys = (walk(stream) for _ in range(5))
    if (
        version.value != 1001
        or _dictionary(machine.value).get("little_endian") is not True
        or not isinstance(keys.value, list)
    ):
        raise Malformed(f"{_LAYOUT}: its version or byte order is another")
    declared = {key: (dtype, count) for key, dtype, count in map(_storage, value.persistent)}
    places = _places(file, stream.tell(), total, cast("list[object]", keys.value), declared)

    def find(key: str, dtype: str, count: int) -> _Stored:
        if places.get(key, (dtype, 0, -1))[0] != dtype or declared.get(key) != (dtype, count):
            raise Malformed(f"lacks the bytes of a tensor: the storage {shown(key)} is missing or of another size")
        return places[key]

    return value.value, find


def _places(
    file: FileIO, at: int, total: int, keys: list[object], declared: Mapping[str, tuple[str, int]]
) -> dict[str, _Stored]:
    """Where the storages lie that follow each other from `at`, each behind its number of elements in eight bytes."""
    places: dict[str, _Stored] = {}
    for key in keys:
        if not isinstance(key, str) or key not in declared or key in places:
            raise Malformed(f"{_LAYOUT}: its list of storages is broken")
        dtype, count = declared[key]
        if int.from_bytes(_bytes(file, Entry(at, 8)), "little") != count:
            raise Malformed(f"lacks the bytes of a tensor: the storage {shown(key)} is of another size")
        places[key] = _Stored(dtype, at + 8, count * ITEM_BYTES[dtype])
        at += 8 + places[key].size
        if at > total:
            raise Malformed("is truncated: get it again")
    if at != total or len(places) != len(declared):
        raise Malformed(f"{_LAYOUT}: it has bytes that belong to no storage, or storages without bytes")
    return places


def _bytes(file: FileIO, entry: Entry) -> bytes:
    if entry.size > MAX_PICKLE:
        raise Malformed("has a pickle too long for a description of tensors")
    file.seek(entry.start)
    parts: list[bytes] = []
    missing = entry.size
    while missing > 0:
        part = file.read(missing)
        if not part:
            raise Malformed("is truncated: get it again")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _tensors(value: object, find: _Find) -> dict[str, TorchInfo]:
    """The tensors of the state, by name. Raises Malformed where there are none."""
    state = _state(value)
    references = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, TensorRef)} or _nested(state)
    if not references:
        raise Malformed(_WHOLE_OBJECT if isinstance(value, Opaque) else "holds no tensors by name")
    if len(references) > MAX_TENSORS:
        raise Malformed(f"declares more than {MAX_TENSORS:,} tensors, which no checkpoint has")
    return {name: _info(name, reference, find) for name, reference in references.items()}


def _state(value: object) -> Mapping[object, object]:
    """The dictionary that holds the tensors, out of what training programs put around it."""
    state = _dictionary(value)
    for _ in range(_DEEPEST):
        inner = next((found for key in WRAPPERS if (found := _dictionary(state.get(key)))), None)
        if inner is None:
            break
        state = inner
    return state


def _nested(state: Mapping[object, object]) -> dict[str, TensorRef]:
    """The tensors of dictionaries within the dictionary, as IP-Adapters, embeddings and hypernetworks have them: called
    by all keys on the way, divided by dots. Raises Malformed for more than any file of weights has."""
    found: dict[str, TensorRef] = {}
    waiting: deque[tuple[str, object, int]] = deque([("", state, 1)])
    visits = 0
    while waiting:
        prefix, level, depth = waiting.popleft()
        for key, value in _items(level):
            visits += 1
            if not isinstance(key, (str, int)):
                continue
            name = f"{prefix}{key}"
            if visits > MAX_TENSORS or len(name) > _MAX_NOTED or name in found:
                raise Malformed("nests more, or longer names, than any file of weights")
            if isinstance(value, TensorRef):
                found[name] = value
            elif depth < _DEEPEST and isinstance(value, (dict, tuple, ParameterDict)):
                waiting.append((f"{name}.", cast("object", value), depth + 1))
    return found


def _items(value: object) -> Iterable[tuple[object, object]]:
    """What a dictionary or a tuple holds, by key or number; nothing of anything else."""
    return enumerate(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else _dictionary(value).items()


def _dictionary(value: object) -> Mapping[object, object]:
    """The value if it is a dictionary, else an empty one."""
    value = value.held if isinstance(value, ParameterDict) else value
    return cast("Mapping[object, object]", value) if isinstance(value, dict) else dict[object, object]()


def _noted(value: object) -> dict[str, str]:
    """Short texts and numbers that stand beside the tensors, such as `global_step`."""
    beside = _dictionary(value).items()
    short = ((key, str(noted)) for key, noted in beside if isinstance(noted, (str, int, float)))
    return {key: text for key, text in short if isinstance(key, str) and len(key) + len(text) <= _MAX_NOTED}


def _storage(key: object) -> tuple[str, str, int]:
    """(key, dtype, number of elements) of what a persistent id says. Raises Malformed."""
    fields = list(cast("tuple[object, ...]", key)) if isinstance(key, tuple) else []
    if len(fields) not in {5, 6} or fields[0] != "storage" or any(field is not None for field in fields[5:]):
        raise Malformed("keeps a tensor outside its file, or in a way that torch has given up")
    kind, name, count = fields[1], fields[2], fields[4]
    dtype = _STORAGES.get(kind) if isinstance(kind, Global) else None
    if dtype is None:
        raise Malformed(f"has a tensor of a kind that cannot be read ({_named(kind)})")
    if not isinstance(name, str) or not _is_size(count):
        raise Malformed("describes a storage that is impossible")
    return name, dtype, cast("int", count)


def _named(found: object) -> str:
    """The name of a class or dtype. Anything else is not printed: it may be as deep and as large as the file likes."""
    return shown(str(found)) if isinstance(found, (Global, str)) else "no name of one"


def _info(name: str, reference: TensorRef, find: _Find) -> TorchInfo:
    if not name.isprintable():
        raise Malformed(f"names a tensor with control characters: {shown(name)}")
    if not isinstance(reference.storage, Persistent):
        raise Malformed(f"has {shown(name)} without a storage")
    stored = _as_typed(name, find(*_storage(reference.storage.key)), reference.dtype)
    shape, stride, offset = _sizes(reference.shape), _sizes(reference.stride), reference.offset
    if shape is None or stride is None or len(shape) != len(stride) or not _is_size(offset):
        raise Malformed(f"has {shown(name)} of an impossible shape")
    item = ITEM_BYTES[stored.dtype]
    reach = 1 + sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True)) if math.prod(shape) else 0
    start = stored.start + cast("int", offset) * item
    if math.prod(shape) > reach or start + reach * item > stored.start + stored.size:
        raise Malformed(f"gives {shown(name)} fewer bytes than its shape needs")
    return TorchInfo(stored.dtype, shape, start, start + reach * item, None if _in_order(shape, stride) else stride)


def _as_typed(name: str, stored: _Stored, dtype: object) -> _Stored:
    """The storage as one of the dtype that the tensor names, if it names one. Raises Malformed."""
    if dtype is None:
        return stored
    kind = _DTYPES.get(dtype) if isinstance(dtype, Global) else None
    if kind is None or stored.dtype != "U8":
        raise Malformed(f"has {shown(name)} of a kind that cannot be read ({_named(dtype)})")
    return stored._replace(dtype=kind)


def _in_order(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether elements follow each other; what the stride of a single row or of nothing is, does not matter."""
    expected = 1
    for extent, step in zip(reversed(shape), reversed(stride), strict=True):
        if extent > 1 and step != expected:
            return False
        expected *= extent
    return True


def _sizes(found: object) -> tuple[int, ...] | None:
    items = cast("tuple[object, ...]", found) if isinstance(found, tuple) else None
    if items is None or len(items) > MAX_DIMENSIONS or not all(_is_size(item) for item in items):
        return None
    return cast("tuple[int, ...]", items)


def _is_size(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= safetensors.MAX_EXTENT
