"""The safetensors format: what is believed, what is refused, and how."""

from __future__ import annotations

import json
import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from atelier.errors import BadFile
from atelier.weights.formats import filling, room, safetensors
from atelier.weights.formats.safetensors import load, read_header, save


def build(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of a header, given as JSON text or as an object, and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


FOUR = b"\0" * 4
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "five bytes": (b"12345", "only 5 bytes"),
    "no header": (struct.pack("<Q", 0) + FOUR, "does not begin with a header"),
    "header longer than the file": (build({"a": entry()}, FOUR, length=4000), "truncated inside its header"),
    "length 2^63": (build({}, length=2**63), "does not begin with a header"),
    "length over the limit": (build({}, length=100_000_001), "does not begin with a header"),
    "leading space": (build(b' {"a":1}'), "does not begin with a header"),
    "byte order mark": (build(b"\xef\xbb\xbf{}"), "does not begin with a header"),
    "bad UTF-8": (build(b'{"\xff":{}}'), "not UTF-8"),
    "broken JSON": (build(b'{"a":'), "not valid JSON"),
    "deep JSON": (build(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "nested too deeply"),
    "duplicate tensor": (build(b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), FOUR), "a occurs twice"),
    "duplicate field": (build(b'{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}'), "dtype occurs"),
    "NaN": (build(b'{"a":NaN}'), "NaN is no JSON number"),
    "negative size": (build({"a": entry(shape=[-1])}, FOUR), "-1 is no size"),
    "fraction": (build({"a": entry(shape=[1.5])}, FOUR), "impossible shape"),
    "true as a size": (build({"a": entry(shape=[True])}, FOUR), "impossible shape"),
    "overflow": (build({"a": entry(shape=[2**62, 2**62])}, FOUR), "impossible shape"),
    "enormous and empty": (build({"a": entry(shape=[2**62, 0], offsets=[0, 0])}), "impossible shape"),
    "a number of 30 digits": (build({"a": entry(shape=[10**30])}, FOUR), "no size"),
    "5000 dimensions": (build({"a": entry(shape=[1] * 5000)}, FOUR), "impossible shape"),
    "unknown dtype": (build({"a": entry(dtype="F12")}, FOUR), "unknown dtype F12"),
    "dtype is no text": (build({"a": entry(dtype=32)}, FOUR), "unknown dtype 32"),
    "shape is no list": (build({"a": entry(shape="1")}, FOUR), "impossible shape"),
    "offsets backwards": (build({"a": entry(offsets=[4, 0])}, FOUR), "impossible data_offsets"),
    "three offsets": (build({"a": entry(offsets=[0, 2, 4])}, FOUR), "impossible data_offsets"),
    "no shape": (build({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, FOUR), "exactly dtype, shape"),
    "surplus field": (build({"a": entry(stride=[1])}, FOUR), "exactly dtype, shape"),
    "tensor is a number": (build({"a": 4}, FOUR), "exactly dtype, shape"),
    "wrong size": (build({"a": entry(shape=[2])}, FOUR), "4 bytes, but its shape and dtype need 8"),
    "gap": (build({"a": entry(), "b": entry(offsets=[8, 12])}, FOUR * 3), "b leaves a gap of 4"),
    "gap at the start": (build({"a": entry(offsets=[4, 8])}, FOUR * 2), "a leaves a gap of 4"),
    "overlap": (build({"a": entry(shape=[2], offsets=[0, 8]), "b": entry(offsets=[4, 8])}, FOUR * 2), "b overlaps"),
    "shared bytes": (build({"a": entry(), "b": entry()}, FOUR), "b overlaps"),
    "empty tensor inside another": (
        build({"a": entry(shape=[2], offsets=[0, 8]), "b": entry(shape=[0], offsets=[4, 4])}, FOUR * 2),
        "b overlaps",
    ),
    "truncated": (build({"a": entry(shape=[100], offsets=[0, 400])}, FOUR), "truncated: 4 of 400 bytes"),
    "bytes at the end": (build({"a": entry()}, FOUR * 2), "4 bytes after its last tensor"),
    "a list": (build(b"[]"), "does not begin with a header"),
    "metadata is a list": (build({"__metadata__": []}), "__metadata__ that is no JSON object"),
    "metadata of numbers": (build({"__metadata__": {"steps": 3}}), "metadata that is not text: steps"),
    "metadata of half a character": (build(b'{"__metadata__":{"a":"\\ud800"}}'), "not valid Unicode: a"),
    "control characters": (build({"a\x1b[31m\x00": entry()}, FOUR), r"control characters: a\\x1b\[31m\\x00"),
    "half a character": (build(b'{"\\ud800":%b}' % json.dumps(entry()).encode(), FOUR), "control characters"),
    "zip": (b"PK\x03\x04" + b"\0" * 60, "a zip archive, probably a pickled .ckpt"),
    "pickle": (b"\x80\x02}q\x00X\x05\x00\x00\x00helloq\x01K\x01s.", "a Python pickle"),
    "picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "an image"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
    "web page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
    "GGUF": (b"GGUF\x03\0\0\0" + b"\0" * 60, "a GGUF file"),
}


LOOKS = {
    b"hello world, these are words": "is text, not weights",
    b'{"_class_name": "UNet2DConditionModel"}': "is JSON, such as settings or an index",
    b"\x08\x07\x12\x07pytorch and so on": "is an ONNX model",
    b"\x89HDF\r\n\x1a\n and so on": "is an HDF5 file",
    b"\x93NUMPY\x01\x00v\x00{}": "is an array of numpy",
    b"\x7fELF\x02\x01\x01\x00 and so on": "is a program, not weights",
    b"GGUF\x03\x00\x00\x00 and so on": "is a GGUF file",
}


@pytest.mark.parametrize("content", LOOKS)
def test_what_is_no_weights_is_told_what_it_looks_like(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=LOOKS[content]):
        read_header(path)


@pytest.mark.parametrize(("content", "problem"), BAD.values(), ids=BAD)
def test_a_bad_file_gives_one_line(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        read_header(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert re.search(problem, message), message
    assert message.isprintable()
    assert len(caught.value.problem) <= 300


def test_too_many_tensors_are_refused_before_they_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 10)
    path = tmp_path / "many.safetensors"
    path.write_bytes(build({f"t{i}": entry(shape=[0], offsets=[0, 0]) for i in range(11)}))
    with pytest.raises(BadFile, match="more than 10 tensors"):
        read_header(path)


def test_what_is_no_file_is_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, problem in {"pipe": "regular file", "folder": "is a folder", "absent": "does not exist"}.items():
        with pytest.raises(BadFile, match=problem):
            read_header(tmp_path / name)
    with pytest.raises(BadFile, match="cannot be read"):
        read_header("a\0b")


def test_an_unreadable_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.safetensors").write_bytes(build({}))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadFile, match="cannot be read \\(Permission denied\\)"):
        read_header(tmp_path / "a.safetensors")


def every_kind() -> dict[str, torch.Tensor]:
    """A tensor of every dtype, a scalar, an empty one, and names that need care."""
    kinds = {kind: getattr(torch, name) for kind, name in safetensors.TORCH_NAMES.items()}
    tensors = {kind: torch.arange(6).reshape(2, 3).to(dtype) for kind, dtype in kinds.items()}
    return tensors | {
        "scalar": torch.tensor(2.5),
        "../é 日本": torch.ones(1),
        "none": torch.empty(0, 3),
        "": torch.ones(2),
    }


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    def bits(tensor: torch.Tensor) -> bytes:
        return bytes(safetensors.tensor_bytes(tensor))

    return left.keys() == right.keys() and all(
        (left[n].dtype, left[n].shape, bits(left[n])) == (right[n].dtype, right[n].shape, bits(right[n])) for n in left
    )


@pytest.mark.parametrize("mapped", [True, False])
def test_every_dtype_survives_and_the_library_agrees(mapped: bool, tmp_path: Path) -> None:
    tensors, path = every_kind(), tmp_path / "all.safetensors"
    save(path, tensors, {"format": "pt", "note": "é"})
    header = read_header(path)
    assert header.metadata == {"format": "pt", "note": "é"}
    assert same(load(header, mapped=mapped), tensors)
    assert same(load_file(path), tensors)
    with safe_open(path, "pt") as theirs:
        assert theirs.metadata() == {"format": "pt", "note": "é"}


def test_files_of_the_library_are_read(tmp_path: Path) -> None:
    tensors, path = every_kind(), tmp_path / "theirs.safetensors"
    save_file(tensors, path)
    assert same(load(read_header(path)), tensors)


def test_bytes_depend_on_the_contents_alone(tmp_path: Path) -> None:
    tensors = every_kind()
    save(tmp_path / "a", tensors, {"x": "1", "y": "2"})
    save(tmp_path / "b", dict(reversed(tensors.items())), {"y": "2", "x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_tensor_lies_aligned(tmp_path: Path) -> None:
    save(tmp_path / "a", every_kind())
    header = read_header(tmp_path / "a")
    for info in header.tensors.values():
        assert (header.data_start + info.start) % safetensors.ITEM_BYTES[info.dtype] == 0


def test_unaligned_tensors_of_other_writers_are_read(tmp_path: Path) -> None:
    text = json.dumps({"a": entry()}, separators=(",", ":")).encode()
    for padding in range(4):
        content = build(text + b" " * padding, struct.pack("<f", 1.25))
        (tmp_path / "a").write_bytes(content)
        assert load(read_header(tmp_path / "a"))["a"].item() == 1.25


def test_mapped_tensors_are_not_copied_and_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save(path, {"a": torch.zeros(1000), "b": torch.ones(1000)})
    before = path.read_bytes()
    header = read_header(path)
    found = load(header)
    apart = header.tensors["b"].start - header.tensors["a"].start
    assert found["b"].data_ptr() - found["a"].data_ptr() == apart  # both lie in one mapping
    found["a"] += 1
    assert torch.equal(found["a"], torch.ones(1000))
    assert path.read_bytes() == before


def test_a_mapped_file_may_be_replaced_and_deleted(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save(path, {"a": torch.arange(5000.0)})
    found = load(read_header(path))["a"]
    save(path, {"a": torch.zeros(1)})
    path.unlink()
    assert torch.equal(found, torch.arange(5000.0))


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("piece", [1, 100, filling.PIECE])
def test_kernels_are_cast_and_laid_out_in_one_pass_as_in_two(
    dtype: torch.dtype | None, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("GRAIN", "PIECE"):
        monkeypatch.setattr(filling, bound, piece)
    shapes = {"kernel": (7, 5, 3, 3), "pointwise": (7, 5, 1, 1), "matrix": (9, 11), "bias": (13,), "scale": ()}
    tensors = {name: torch.randn(shape).half() for name, shape in shapes.items()} | {"none": torch.empty(0, 2, 3, 3)}
    save(tmp_path / "a", tensors)
    found = load(read_header(tmp_path / "a"), dtype=dtype, channels_last=True)
    for name, tensor in tensors.items():
        expected = tensor if dtype is None else tensor.to(dtype)
        assert torch.equal(found[name], expected)
        assert found[name].dtype == expected.dtype
        if tensor.ndim == 4 and tensor.numel():
            assert found[name].stride() == expected.to(memory_format=torch.channels_last).stride()
        else:
            assert found[name].is_contiguous()


def test_tensors_in_memory_of_our_own_are_aligned_and_apart(tmp_path: Path) -> None:
    tensors = {str(i): torch.full((i,), float(i)) for i in range(1, 40)}
    save(tmp_path / "a", tensors)
    found = load(read_header(tmp_path / "a"), mapped=False)
    assert {tensor.data_ptr() % room.ALIGNED for tensor in found.values()} == {0}
    assert all(tensor.untyped_storage().nbytes() == 4 * len(tensor) for tensor in found.values())
    found["20"] += 1
    assert all(torch.equal(found[name], tensors[name] + (name == "20")) for name in tensors)


SHORT = (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


@pytest.mark.parametrize("target", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("source", SHORT)
def test_short_precisions_are_cast_as_torch_casts_them(
    source: torch.dtype, target: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is too small or too large for the other, piece by piece, in rows and in kernels."""
    monkeypatch.setattr(filling, "GRAIN", 100)
    monkeypatch.setattr(filling, "PIECE", 256)
    values = torch.cat([torch.randn(300) * 10.0**power for power in (-9, -5, 0, 3, 6)] + [torch.tensor([0.0, -0.0])])
    tensors = {"flat": values.to(source), "kernel": values[:1440].reshape(10, 16, 3, 3).to(source)}
    save(tmp_path / "a.safetensors", tensors)
    header = read_header(tmp_path / "a.safetensors")
    for last in (False, True):
        found = load(header, dtype=target, mapped=False, channels_last=last)
        for name, tensor in tensors.items():
            expected = tensor.to(target)
            assert torch.equal(found[name].view(torch.int16), expected.view(torch.int16)), name


def test_chosen_tensors_are_cast_and_integers_are_not(tmp_path: Path) -> None:
    save(tmp_path / "a", {"f": torch.tensor([1.5]), "h": torch.tensor([2.5]).half(), "i": torch.tensor([3])})
    header = read_header(tmp_path / "a")
    found = load(header, ["h", "i"], dtype=torch.float32)
    assert found.keys() == {"h", "i"}
    assert (found["h"].dtype, found["i"].dtype) == (torch.float32, torch.int64)
    assert load(header, ["f"], dtype=torch.bfloat16)["f"].dtype == torch.bfloat16


def test_a_file_that_changed_since_its_header_was_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save(path, {"a": torch.zeros(4)})
    header = read_header(path)
    save(path, {"a": torch.zeros(5)})
    with pytest.raises(BadFile, match="changed since it was opened"):
        load(header)
    path.unlink()
    with pytest.raises(BadFile, match="does not exist"):
        load(header)


def test_another_header_is_noticed_though_the_file_looks_the_same(tmp_path: Path) -> None:
    """Of the same length and time, in the same place on the disk."""
    path = tmp_path / "a"
    save(path, {"a": torch.zeros(4)})
    header, state = read_header(path), path.stat()
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b'"a":', b'"b":'))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(BadFile, match="changed since it was opened"):
        load(header)


def _flipped(content: bytearray, draw: random.Random) -> None:
    content[draw.randrange(len(content))] = draw.choice(b'{}[],:"0123456789-eFIU \\\x00\xff')


def _removed(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content))]


def _doubled(content: bytearray, draw: random.Random) -> None:
    at = draw.randrange(8, len(content))
    content[at:at] = content[at : at + draw.randrange(1, 12)]


def _mutants(seed: int, count: int) -> Iterator[bytes]:
    header = {"__metadata__": {"format": "pt"}, "a": entry(shape=[2], offsets=[0, 8]), "b": entry("U8", [3], [8, 11])}
    whole = build(json.dumps(header, separators=(",", ":")).encode(), bytes(range(11)))
    draw = random.Random(seed)
    changes: list[Callable[[bytearray, random.Random], None]] = [_flipped, _removed, _doubled]
    for _ in range(count):
        content = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            draw.choice(changes)(content, draw)
        if draw.random() < 0.7:
            content[:8] = struct.pack("<Q", max(0, len(content) - 8 - 11))
        yield bytes(content)


def test_what_is_accepted_the_library_accepts_and_reads_alike(tmp_path: Path) -> None:
    path, accepted = tmp_path / "mutant", 0
    for content in _mutants(seed=5, count=1500):
        path.write_bytes(content)
        header = _ours(path)
        if header is None:
            continue
        accepted += 1
        theirs = _theirs(path)
        assert theirs is not None, content
        assert {n: tuple(t.shape) for n, t in theirs.items()} == {n: i.shape for n, i in header.tensors.items()}
        assert same(load(header), theirs), content
    assert accepted > 20


def _ours(path: Path) -> safetensors.Header | None:
    try:
        return read_header(path)
    except BadFile:
        return None


def _theirs(path: Path) -> dict[str, Any] | None:
    try:
        return load_file(path)
    except SafetensorError:
        return None
