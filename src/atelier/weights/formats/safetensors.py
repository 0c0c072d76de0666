"""The safetensors format, checked before anything is believed: https://github.com/huggingface/safetensors.

Eight bytes of header length, a JSON header of names, dtypes, shapes and offsets, then the tensors without gaps. The
header alone is read without torch; tensors are mapped from the file, so that loading copies nothing until it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from atelier.errors import BadFile
from atelier.weights.formats.atomic import new_file
from atelier.weights.formats.filling import Stretch, fill, stretches
from atelier.weights.formats.room import Room
from atelier.weights.formats.stamps import Stamp, check_unchanged, opened, shrank, stamp_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_KINDS = (
    ("BOOL", "bool", 1),
    ("U8", "uint8", 1),
    ("I8", "int8", 1),
    ("F8_E4M3", "float8_e4m3fn", 1),
    ("F8_E5M2", "float8_e5m2", 1),
    ("U16", "uint16", 2),
    ("I16", "int16", 2),
    ("F16", "float16", 2),
    ("BF16", "bfloat16", 2),
    ("U32", "uint32", 4),
    ("I32", "int32", 4),
    ("F32", "float32", 4),
    ("U64", "uint64", 8),
    ("I64", "int64", 8),
    ("F64", "float64", 8),
)
TORCH_NAMES: Mapping[str, str] = MappingProxyType({kind: name for kind, name, _ in _KINDS})
"""What torch calls each dtype that is read."""
ITEM_BYTES: Mapping[str, int] = MappingProxyType({kind: size for kind, _, size in _KINDS})
FLOATS = frozenset({"F8_E4M3", "F8_E5M2", "F16", "BF16", "F32", "F64"})
MAX_HEADER = 100_000_000
MAX_TENSORS = 50_000
MAX_BRACKETS, MAX_COMMAS = 500_000, 1_500_000
"""In a header: what is parsed takes 30 times the room of its text and more, and a second for so much."""
MAX_DIMENSIONS = 32
MAX_EXTENT = 2**40

_ONLY = "only safetensors files and those of torch.save are read"
_FOREIGN: tuple[tuple[bytes | tuple[bytes, ...], str], ...] = (
    (b"PK\x03\x04", "a zip archive, probably a pickled .ckpt or .pt"),
    (
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        f"a Python pickle without what torch.save writes around it; {_ONLY}",
    ),
    (b"GGUF", f"a GGUF file; {_ONLY}"),
    (b"version ", "a git-lfs pointer, not the weights themselves; fetch the file with git lfs"),
    ((b"<!DOCTYP", b"<!doctyp", b"<html", b"<HTML"), "a web page, not weights; download the file again"),
    ((b"\x89PNG", b"\xff\xd8\xff"), "an image, not weights"),
    ((b"7z\xbc\xaf", b"Rar!", b"\x1f\x8b"), "a compressed archive, not weights; unpack it first"),
    (b"\x89HDF", f"an HDF5 file, such as Keras writes; {_ONLY}"),
    (b"\x93NUMPY", f"an array of numpy; {_ONLY}"),
    ((b"MZ", b"\x7fELF"), "a program, not weights"),
    (b"%PDF", "a PDF document, not weights"),
    (b"{", "JSON, such as settings or an index; name the weights beside it, or their folder"),
)
_ONNX = re.compile(rb"\x08[\x01-\x20]\x12", re.DOTALL)
"""The first fields of an ONNX file: a version, then the name of the program that wrote it."""
_TEXT = re.compile(rb"[\t\n\r -~]{8}")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as the header declares it; `start` and `end` are byte offsets into the data that follow the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: every offset lies inside the file, every size agrees with its dtype and shape. stamp: what
    changes when the file is changed or replaced, though it had the same header; digest: of the header's text."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    stamp: Stamp
    digest: bytes


def read_header(path: str | Path) -> Header:
    """Reads and checks the header of a file, nothing else. Raises BadFile with one line that says what is wrong."""
    path = Path(path)
    with opened(path) as file:
        return _header(path, file)


def load(
    header: Header,
    names: Iterable[str] | None = None,
    *,
    dtype: torch.dtype | None = None,
    mapped: bool = True,
    channels_last: bool = False,
) -> dict[str, Tensor]:
    """The tensors called `names` (all of them when None), floating ones as `dtype` if it is given.

    channels_last: kernels, which have 4 dimensions, lie channel last in memory. What needs no change is mapped: private
    pages of the file, writable without changing it, read when first touched. A mapped file must not be truncated while
    it is used; `mapped=False` reads into memory of our own instead, as changes do. Nothing is in memory twice: a file
    is read and changed in small pieces. Memory of our own is freed when the last of its tensors is.

    Raises BadFile when the file is no longer the one whose header was read.
    """
    infos = {name: header.tensors[name] for name in (header.tensors if names is None else names)}
    with opened(header.path) as file:
        if stamp_of(file) != header.stamp or _digest(_text(header.path, file)) != header.digest:
            raise BadFile(header.path, "changed since it was opened; open it again")
        wanted = Wanted(dtype, mapped=mapped, channels_last=channels_last)
        return Source(header.path, file, header.stamp, header.data_start, wanted).tensors(infos)


Tell = Callable[[int, int], None]
"""Hears (done, total) while something long is done; what it raises ends that."""


def untold(_done: int, _total: int, /) -> None:
    """Nobody listens."""


def save(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a file atomically: the same tensors and metadata always give the same bytes.

    Wider items come first, so that every tensor lies aligned. Raises StorageFull or BadFile; an earlier file of that
    name survives every failure.
    """
    save_each(path, declaration(tensors), lambda name: tensors[name], metadata)


def save_each(
    path: str | Path,
    declared: Mapping[str, tuple[str, tuple[int, ...]]],
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
    tell: Tell = untold,
) -> None:
    """The same of tensors of which no two need be in memory: each is asked for when its place in the file has come.

    declared: dtype (F16, …) and shape of each; tell: hears before each tensor how many of how many are written. Raises
    ValueError for a tensor of another, and whatever `tensor` and `tell` raise; then nothing is written.
    """
    with new_file(Path(path)) as file:
        for number, piece in enumerate(written(declared, tensor, metadata)):
            tell(number, 1 + len(declared))
            file.write(piece)


def declaration(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What `save_each` and `written` are told of tensors: the dtype and shape of each."""
    return {name: (_dtype_name(name, tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}


def written(
    declared: Mapping[str, tuple[str, tuple[int, ...]]],
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> Iterator[bytes | memoryview]:
    """The bytes of the file that `save_each` writes: the header with its length first, then tensor by tensor."""
    order = written_order(declared)
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in order:
        dtype, shape = declared[name]
        start, end = end, end + math.prod(shape) * ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        found = tensor(name)
        if (_dtype_name(name, found), tuple(found.shape)) != declared[name]:
            raise ValueError(f"{name}: is another tensor than was declared")
        yield tensor_bytes(found)


def written_order(declared: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    """The names in the order in which `save_each` asks for them: wider items first."""
    return sorted(declared, key=lambda name: (-ITEM_BYTES[declared[name][0]], name))


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The elements of a tensor in order, as they stand in a file (little-endian machines only)."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(cast("Any", flat.view(torch.uint8).numpy()))


def shown(name: str) -> str:
    """A name from a file, safe to print: control characters escaped, long ones shortened."""
    safe = name if name.isprintable() else ascii(name)[1:-1]
    return safe if len(safe) <= 80 else f"{safe[:77]}..."


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a caller wants its tensors; see `load`."""

    dtype: torch.dtype | None
    mapped: bool
    channels_last: bool

    def as_stored(self, info: TensorInfo) -> bool:
        return self.cast_to(info) == _torch_dtype(info) and not self.kernel(info)

    def cast_to(self, info: TensorInfo) -> torch.dtype:
        return _torch_dtype(info) if self.dtype is None or info.dtype not in FLOATS else self.dtype

    def kernel(self, info: TensorInfo) -> bool:
        """Whether the tensor is to be laid out channels last."""
        return self.channels_last and len(info.shape) == 4


class Source:
    """One open file, mapped at most once. data_start: where in it the offsets of tensors count from."""

    def __init__(self, path: Path, file: FileIO, stamp: Stamp, data_start: int, wanted: Wanted) -> None:
        self._path, self._file, self._stamp, self._data_start, self._wanted = path, file, stamp, data_start, wanted
        self._whole: mmap.mmap | None = None

    def tensors(self, infos: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
        """Raises BadFile where the file changes meanwhile."""
        import torch

        own = {name: info for name, info in infos.items() if info.count and not self._mappable(info)}
        room = Room(info.count * self._wanted.cast_to(info).itemsize for info in own.values())
        found: dict[str, Tensor] = {}
        for name, info in infos.items():
            dtype = self._wanted.cast_to(info)
            if name in own:
                found[name] = room.tensor(info.shape, dtype, channels_last=self._wanted.kernel(info))
            else:
                found[name] = self._mapped(info) if info.count else torch.empty(info.shape, dtype=dtype)
        parts = (part for name, info in own.items() for part in self._stretches(found[name], info))
        fill(self._path, self._stamp, parts)
        check_unchanged(self._path, self._file, self._stamp)
        return found

    def _stretches(self, tensor: Tensor, info: TensorInfo) -> Iterator[Stretch]:
        """Of a kernel whole output channels, since the others lie in another order than in the file."""
        rows = tensor if self._wanted.kernel(info) else tensor.view(-1)
        return stretches(rows, _torch_dtype(info), self._offset(info))

    def _mappable(self, info: TensorInfo) -> bool:
        aligned = self._offset(info) % ITEM_BYTES[info.dtype] == 0
        return self._wanted.mapped and aligned and self._wanted.as_stored(info)

    def _offset(self, info: TensorInfo) -> int:
        return self._data_start + info.start

    def _mapped(self, info: TensorInfo) -> Tensor:
        import torch

        if self._whole is None:
            self._whole = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        dtype, offset = _torch_dtype(info), self._offset(info)
        return torch.frombuffer(self._whole, dtype=dtype, count=info.count, offset=offset).view(info.shape)


def _torch_dtype(info: TensorInfo) -> torch.dtype:
    import torch

    return cast("torch.dtype", getattr(torch, TORCH_NAMES[info.dtype]))


def _header(path: Path, file: FileIO) -> Header:
    stamp, text = stamp_of(file), _text(path, file)
    if text.count(b'"data_offsets"') > MAX_TENSORS:
        raise BadFile(path, f"declares more than {MAX_TENSORS:,} tensors, which no checkpoint has")
    if text.count(b"[") + text.count(b"{") > MAX_BRACKETS or text.count(b",") > MAX_COMMAS:
        raise BadFile(path, "has a header of more values than any checkpoint needs")
    tensors, metadata = _parsed(path, text)
    start = 8 + len(text)
    _check_offsets(path, tensors, os.fstat(file.fileno()).st_size - start)
    return Header(path, MappingProxyType(tensors), MappingProxyType(metadata), start, stamp, _digest(text))


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _text(path: Path, file: FileIO) -> bytes:
    """The header of a file that is about to be read. Raises BadFile for what does not begin with one."""
    total = os.fstat(file.fileno()).st_size
    first = _exactly(path, file, min(total, 8))
    if total < 8:
        raise BadFile(
            path, ("is empty" if total == 0 else f"is no safetensors file: only {total} bytes") + ": get it again"
        )
    length = int.from_bytes(first, "little")
    start = 8 + length
    if length > MAX_HEADER or start > total or length < 2:
        _refuse(path, first, length, total)
    text = _exactly(path, file, length)
    if not text.startswith(b"{"):
        _refuse(path, first, length, total)
    return text


def _exactly(path: Path, file: FileIO, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = file.read(size)
        if not part:
            raise shrank(path)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _refuse(path: Path, first: bytes, length: int, total: int) -> NoReturn:
    for magic, what in _FOREIGN:
        if first.startswith(magic):
            raise BadFile(path, f"is {what}")
    if _ONNX.match(first):
        raise BadFile(path, f"is an ONNX model; {_ONLY}")
    if _TEXT.fullmatch(first):
        raise BadFile(path, "is text, not weights; get the file again")
    if 2 <= length <= MAX_HEADER and 8 + length > total:
        raise BadFile(path, f"is truncated inside its header ({total:,} bytes of at least {8 + length:,}), or foreign")
    raise BadFile(path, "is no safetensors file: it does not begin with a header length and a JSON header")


def _parsed(path: Path, text: bytes) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    try:
        root = cast("object", json.loads(text.decode(), object_pairs_hook=_unique, parse_int=_size, parse_constant=_no))
    except UnicodeDecodeError as error:
        raise BadFile(path, "has a header that is not UTF-8") from error
    except RecursionError as error:
        raise BadFile(path, "has a header nested too deeply") from error
    except ValueError as error:
        raise BadFile(path, f"has a header that is not valid JSON: {shown(str(error))}") from error
    if not isinstance(root, dict):
        raise BadFile(path, "has a header that is no JSON object")
    entries = cast("dict[str, object]", root)
    metadata = _metadata(path, entries.pop("__metadata__", {}))
    return {name: _info(path, name, entry) for name, entry in entries.items()}, metadata


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} occurs twice")
        found[key] = value
    return found


def _size(digits: str) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise ValueError(f"{digits[:20]} is no size")
    return int(digits)


def _no(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _metadata(path: Path, found: object) -> dict[str, str]:
    if not isinstance(found, dict):
        raise BadFile(path, "has a __metadata__ that is no JSON object")
    entries = cast("dict[str, object]", found)
    for key, value in entries.items():
        if not isinstance(value, str):
            raise BadFile(path, f"has metadata that is not text: {shown(key)}")
        if not (_encodable(key) and _encodable(value)):
            raise BadFile(path, f"has metadata that is not valid Unicode: {shown(key)}")
    return cast("dict[str, str]", entries)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _info(path: Path, name: str, found: object) -> TensorInfo:
    entry = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    if not name.isprintable():
        raise BadFile(path, f"names a tensor with control characters: {shown(name)}")
    if entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise BadFile(path, f"declares {shown(name)} without exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], _sizes(entry["shape"]), _sizes(entry["data_offsets"])
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise BadFile(path, f"declares {shown(name)} with the unknown dtype {shown(str(dtype))}")
    if shape is None or len(shape) > MAX_DIMENSIONS or any(extent > MAX_EXTENT for extent in shape):
        raise BadFile(path, f"declares {shown(name)} with an impossible shape")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadFile(path, f"declares {shown(name)} with impossible data_offsets")
    info = TensorInfo(dtype, shape, offsets[0], offsets[1])
    if info.bytes != info.count * ITEM_BYTES[dtype]:
        needed = info.count * ITEM_BYTES[dtype]
        raise BadFile(path, f"gives {shown(name)} {info.bytes:,} bytes, but its shape and dtype need {needed:,}")
    return info


def _sizes(found: object) -> tuple[int, ...] | None:
    if not isinstance(found, list):
        return None
    items = cast("list[object]", found)
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        return None
    return tuple(cast("list[int]", items))


def _check_offsets(path: Path, tensors: Mapping[str, TensorInfo], size: int) -> None:
    """The tensors must tile the data exactly: no gap, no overlap, nothing after the last."""
    end = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != end:
            kind = "overlaps the tensor before it" if info.start < end else f"leaves a gap of {info.start - end} bytes"
            raise BadFile(path, f"is malformed: {shown(name)} {kind}")
        end = info.end
    if end > size:
        raise BadFile(path, f"is truncated: {size:,} of {end:,} bytes of tensors are there; fetch it again")
    if end < size:
        raise BadFile(path, f"has {size - end:,} bytes after its last tensor, which no safetensors file has")


def _dtype_name(name: str, tensor: Tensor) -> str:
    torch_name = str(tensor.dtype).removeprefix("torch.")
    for kind, found in TORCH_NAMES.items():
        if found == torch_name:
            return kind
    raise TypeError(f"{name}: the dtype {tensor.dtype} has no name in safetensors files")
