"""Files of torch.save: read as torch reads them, never unpickled, and refused where they are hostile or broken."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from atelier.errors import BadFile
from atelier.weights.archive import open_any
from atelier.weights.formats import safetensors
from atelier.weights.formats.pickle_walk import Malformed, Opaque, TensorRef, walk

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def tensors() -> dict[str, Tensor]:
    whole = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8)
    return {
        "plain": whole,
        "shares": whole[1:3],
        "strided": whole[:, :, ::2, 1:],
        "turned": whole.transpose(0, 3),
        "last": whole.to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(whole[0]),
        "buffer": torch.nn.Buffer(whole[1].clone()),
        **{str(kind): (whole[0, 0] * 100).to(kind) for kind in kinds},
    }


def save(path: Path, value: object, *, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@FORMATS
@pytest.mark.parametrize("mapped", [True, False])
def test_it_reads_what_torch_reads(zipped: bool, mapped: bool, tmp_path: Path) -> None:
    written = tensors()
    archive = open_any(save(tmp_path / "a.pth", written, zipped=zipped))
    assert list(archive.tensors) == list(written)
    assert archive.tensors["plain"].dtype == "F32"
    assert archive.tensors["torch.bfloat16"].dtype == "BF16"
    for name, tensor in archive.load(written, mapped=mapped).items():
        assert (tensor.dtype, tensor.shape) == (written[name].dtype, written[name].shape), name
        assert torch.equal(tensor, written[name]), name
        info = archive.tensors[name]
        assert (info.count, info.bytes) == (tensor.numel(), tensor.numel() * tensor.element_size()), name


def test_it_casts_and_lays_out_kernels(tmp_path: Path) -> None:
    written = tensors()
    archive = open_any(save(tmp_path / "a.pth", written))
    read = archive.load(["plain", "strided", "bytes"], dtype=torch.float16, channels_last=True)
    assert read.keys() == {"plain", "strided", "bytes"}
    assert read["bytes"].dtype == torch.uint8
    for name in ("plain", "strided"):
        assert torch.equal(read[name], written[name].half())
        assert read[name].is_contiguous(memory_format=torch.channels_last)


def test_what_is_read_is_not_the_file(tmp_path: Path) -> None:
    archive = open_any(save(tmp_path / "a.pth", tensors()))
    before = archive.path.read_bytes()
    archive.load(["plain"])["plain"].zero_()
    assert archive.path.read_bytes() == before


STATE = {"w": torch.ones(2)}


@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": STATE, "epoch": 3},
        {"params": {"a": torch.zeros(1)}, "params_ema": STATE},
        {"model": {"state_dict": STATE}},
        OrderedDict(STATE),
    ],
)
def test_weights_are_found_in_what_stands_around_them(value: object, tmp_path: Path) -> None:
    assert list(open_any(save(tmp_path / "a.ckpt", value)).tensors) == ["w"]


def test_texts_and_numbers_beside_the_weights_are_metadata(tmp_path: Path) -> None:
    value = {"state_dict": {"w": torch.ones(1)}, "global_step": 840000, "long": "x" * 5000, "list": [1]}
    assert dict(open_any(save(tmp_path / "a.ckpt", value)).metadata) == {"global_step": "840000"}


def test_a_state_dict_of_a_module_with_its_metadata(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    archive = open_any(save(tmp_path / "a.pth", state))
    assert torch.equal(archive.load(["weight"])["weight"], state["weight"])


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    archive = open_any(save(tmp_path / "a.pth", {"w": torch.ones(3)}))
    save(archive.path, {"w": torch.ones(4)})
    with pytest.raises(BadFile, match="changed since it was opened"):
        archive.load(["w"])


def test_safetensors_are_told_apart_by_content(tmp_path: Path) -> None:
    safetensors.save(tmp_path / "a.pth", {"w": torch.ones(1)})
    assert list(open_any(tmp_path / "a.pth").tensors) == ["w"]


# Hostile files


def archive_of(pickle: bytes, storages: dict[str, bytes] | None = None, **more: bytes) -> bytes:
    """A zip archive as torch writes it, of any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", pickle)
        for name, data in (storages or {}).items():
            file.writestr(f"archive/data/{name}", data)
        for name, data in more.items():
            file.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def short(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def sizes(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(
    shape: tuple[int, ...] = (2,),
    stride: tuple[int, ...] = (1,),
    *,
    count: int = 2,
    offset: int = 0,
    kind: bytes = b"ctorch\nFloatStorage\n",
    key: str = "0",
) -> bytes:
    """{"w": a tensor}, as a pickle says it."""
    persistent = b"(" + short("storage") + kind + short(key) + short("cpu") + integer(count) + b"tQ"
    arguments = b"(" + persistent + integer(offset) + sizes(shape) + sizes(stride) + b"\x89Nt"
    return b"\x80\x02}" + short("w") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


END_OF_NONE = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 0, 0, 0, 22, 0)
EIGHT = {"0": b"\0" * 8}
GADGETS = {
    "GLOBAL, REDUCE": b"\x80\x02cos\nsystem\n" + short("id") + b"\x85R.",
    "GLOBAL of posix": b"cposix\nsystem\n(S'id'\ntR.",
    "INST": b"(S'id'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\n" + short("id") + b"o.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short("id") + b"\x85R.",
    "NEWOBJ": b"\x80\x02csubprocess\nPopen\n" + short("id") + b"\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04\x8c\nsubprocess\x8c\x05Popen\x93)}\x92.",
    "eval": b"\x80\x02c__builtin__\neval\n" + short("1") + b"\x85R.",
    "exec": b"\x80\x02cbuiltins\nexec\n" + short("1") + b"\x85R.",
    "getattr": b"\x80\x02cbuiltins\ngetattr\n" + short("1") + b"\x85R.",
    "runpy": b"\x80\x02crunpy\n_run_code\n" + short("1") + b"\x85R.",
    "pip": b"\x80\x02cpip\nmain\n" + short("1") + b"\x85R.",
    "a module below": b"\x80\x02casyncio.unix_events\n_UnixSubprocessTransport\n)R.",
    "after the weights": tensor()[:-1] + b"cos\nsystem\n" + short("id") + b"\x85R0.",
}
BROKEN: dict[str, tuple[bytes, str]] = {
    "no pickle": (archive_of(b"hello"), "no whole pickle"),
    "no end": (archive_of(tensor()[:-1], EIGHT), "no whole pickle"),
    "an empty stack": (archive_of(b"\x80\x02."), "no whole pickle"),
    "a mark as the value": (archive_of(b"(."), "no whole pickle"),
    "an unknown memo": (archive_of(b"h\x07."), "no whole pickle"),
    "an extension": (archive_of(b"\x82\x01."), "instruction EXT1"),
    "a buffer": (archive_of(b"\x97."), "instruction NEXT_BUFFER"),
    "a persistent id in text": (archive_of(b"Pabc\n."), "instruction PERSID"),
    "an item of a number": (archive_of(b"K\x01K\x01K\x01s."), "sets an item of what is no dictionary"),
    "appending to a number": (archive_of(b"K\x01K\x01a."), "appends to what is no list"),
    "a giant number": (archive_of(b"\x8b\xff\xff\x00\x00" + b"\1" * 65535 + b"."), "integer that no weights need"),
    "a giant text": (archive_of(b"\x8d" + b"\xff" * 8 + b"."), "no whole pickle"),
    "a text for ever": (archive_of(b"X\xff\xff\xff\x7f."), "no whole pickle"),
    "many instructions": (archive_of(b"N0" * 500_001 + b"N."), "more than 1,000,000 instructions"),
    "a whole object": (archive_of(b"\x80\x02cmine\nNet\n)\x81}b."), "holds a whole object"),
    "no tensors": (archive_of(b"\x80\x02}."), "holds no tensors by name"),
    "no storage": (archive_of(tensor(), {}), "storage 0 is missing"),
    "a short storage": (archive_of(tensor(), {"0": b"\0" * 4}), "storage 0 is missing or of another size"),
    "a long storage": (archive_of(tensor(), {"0": b"\0" * 12}), "storage 0 is missing or of another size"),
    "a shape too large": (archive_of(tensor((3,)), EIGHT), "gives w fewer bytes than its shape needs"),
    "an offset too large": (archive_of(tensor(offset=1), EIGHT), "gives w fewer bytes"),
    "a stride too large": (archive_of(tensor(stride=(2,)), EIGHT), "gives w fewer bytes"),
    "a stride bomb": (archive_of(tensor((2**20, 2**20), (0, 0)), EIGHT), "gives w fewer bytes"),
    "elements on each other": (archive_of(tensor((2, 2), (1, 0)), EIGHT), "gives w fewer bytes"),
    "a negative offset": (archive_of(tensor(offset=-1), EIGHT), "impossible shape"),
    "a negative size": (archive_of(tensor((-1,)), EIGHT), "impossible shape"),
    "a negative stride": (archive_of(tensor(stride=(-1,)), EIGHT), "impossible shape"),
    "an overflowing size": (archive_of(tensor((2**62,)), EIGHT), "impossible shape"),
    "more strides than sizes": (archive_of(tensor((2,), (1, 1)), EIGHT), "impossible shape"),
    "40 dimensions": (archive_of(tensor((1,) * 40, (1,) * 40), EIGHT), "impossible shape"),
    "a negative count": (archive_of(tensor(count=-2), EIGHT), "a storage that is impossible"),
    "an unknown kind": (archive_of(tensor(kind=b"ctorch\nQInt8Storage\n"), EIGHT), "torch.QInt8Storage"),
    "a kind that is text": (archive_of(tensor(kind=short("FloatStorage")), EIGHT), "a kind that cannot be read"),
    "a key out of the folder": (archive_of(tensor(key="../0"), EIGHT), "storage ../0 is missing"),
    "another entry": (archive_of(tensor(), EIGHT, archive__code=b"x"), "the entry archive/code"),
    "another folder": (archive_of(tensor(), EIGHT, other__version=b"3"), "the entry other/version"),
    "an entry above": (archive_of(tensor(), EIGHT, **{"..__data.pkl": b"3"}), "the entry ../data.pkl"),
    "TorchScript": (archive_of(tensor(), EIGHT, **{"archive__constants.pkl": b"3"}), "TorchScript"),
    "big endian": (archive_of(tensor(), EIGHT, archive__byteorder=b"big"), "another byte order"),
    "no data.pkl": (archive_of(b"").replace(b"data.pkl", b"byteorder"[:8]), "the entry archive/byteorde"),
    "an archive of nothing": (b"PK\x03\x04" + bytes(18) + END_OF_NONE, "bytes that belong to no entry"),
    "a tar": (b"./" + b"\0" * 600, "or foreign"),
    "7z": (b"7z\xbc\xaf" + b"\0" * 60, "compressed archive"),
    "a bare pickle": (b"\x80\x02}.", "safetensors file"),
}


@contextmanager
def watched() -> Generator[list[str]]:
    """What Python does meanwhile that a file must not make it do."""
    _EVENTS.clear()
    _WATCH.append(True)
    try:
        yield _EVENTS
    finally:
        _WATCH.clear()


_WATCH: list[bool] = []
_EVENTS: list[str] = []
_FORBIDDEN = ("import", "exec", "compile", "os.", "subprocess.", "socket.", "pickle.", "marshal.", "ctypes.")


def _audit(event: str, _: object) -> None:
    if _WATCH and event.startswith(_FORBIDDEN):
        _EVENTS.append(event)


sys.addaudithook(_audit)


def test_the_watch_sees() -> None:
    with watched() as events:
        compile("1", "x", "eval")
    assert events == ["compile"]


@pytest.mark.parametrize("name", GADGETS)
def test_gadgets_are_named_and_nothing_is_done(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(archive_of(GADGETS[name], EIGHT))
    with watched() as events, pytest.raises(BadFile, match="no weights need and attacks use"):
        open_any(path)
    assert events == []


@pytest.mark.parametrize("name", GADGETS)
def test_so_in_the_older_format(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"w": torch.ones(2)}, zipped=False)
    head = path.read_bytes()[:21]  # the number and the version
    path.write_bytes(head + GADGETS[name])
    with watched() as events, pytest.raises(BadFile, match="no weights need and attacks use"):
        open_any(path)
    assert events == []


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_one_line(name: str, tmp_path: Path) -> None:
    data, message = BROKEN[name]
    path = tmp_path / "a.pth"
    path.write_bytes(data)
    with pytest.raises(BadFile) as caught:
        open_any(path)
    text = str(caught.value)
    assert message in text
    assert text.isprintable()
    assert len(text) < 300


def test_a_harmless_stranger_is_no_obstacle(tmp_path: Path) -> None:
    """What trainers keep beside the weights: their own classes, scalars of numpy, dictionaries with classes as keys."""
    beside = (
        b"cpytorch_lightning.callbacks\nModelCheckpoint\n}" + short("best") + b"K\x01ss"
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n(" + short("f8") + b"K\x00K\x01tR" + b"C\x08" + b"\0" * 8
    )
    pickle = b"\x80\x03}" + short("callbacks") + b"}" + beside[: beside.index(b"cnumpy")] + b"s" + b"."
    value = walk(io.BytesIO(pickle)).value
    assert value == {"callbacks": {}}
    scalar = beside[beside.index(b"cnumpy") :] + b"\x86R"
    inner = tensor()[2:-1]
    path = tmp_path / "a.ckpt"
    path.write_bytes(
        archive_of(b"\x80\x03}(" + short("state_dict") + inner + short("loss") + scalar + b"u.", {"0": b"\0" * 8})
    )
    archive = open_any(path)
    assert archive.load(["w"])["w"].tolist() == [0, 0]


@pytest.mark.parametrize("opening", [b"(", b"]", b"}K\x01"])
def test_deep_nesting_ends_well(opening: bytes) -> None:
    closing = {b"(": b"t", b"]": b"a", b"}K\x01": b"s"}[opening]
    depth = 200_000
    pickle = opening * depth + (b"N" if opening != b"]" else b"]") + closing * depth + b"."
    assert walk(io.BytesIO(pickle)).value is not None


def test_laughs_are_shared_not_multiplied() -> None:
    pickle = b"](NNq\x00e" + b"".join(b"q%c](h%ch%ce" % (n, n, n) for n in range(1, 60)) + b"."
    assert walk(io.BytesIO(pickle)).value is not None


def test_a_call_of_what_is_no_global_is_opaque() -> None:
    assert walk(io.BytesIO(b"](NNe)R.")).value == Opaque(None)
    with pytest.raises(Malformed, match="names a global by what is no text"):
        walk(io.BytesIO(b"K\x01K\x02\x93."))


def test_the_instructions_of_later_protocols(tmp_path: Path) -> None:
    for protocol in (2, 3, 4, 5):
        path = tmp_path / f"{protocol}.pth"
        torch.save({"w": torch.ones(2)}, path, pickle_protocol=protocol)
        assert open_any(path).load(["w"])["w"].tolist() == [1, 1]


def test_python_2_wrote_dictionaries_as_lists() -> None:
    rows = b"](](" + short("a") + b"K\x01e](" + short("b") + b"K\x02ee"
    assert walk(io.BytesIO(b"\x80\x02ccollections\nOrderedDict\n" + rows + b"\x85R.")).value == {"a": 1, "b": 2}


def test_a_tensor_is_only_described() -> None:
    value = walk(io.BytesIO(tensor())).value
    assert isinstance(value, dict)
    assert isinstance(value["w"], TensorRef)


# Containers


def zipped(tmp_path: Path) -> tuple[Path, bytearray]:
    path = save(tmp_path / "a.pth", {"w": torch.ones(64)})
    return path, bytearray(path.read_bytes())


@pytest.mark.parametrize("cut", [3, 30, 400, -1, -22, -60, -120, -400])
def test_a_cut_archive_is_refused(cut: int, tmp_path: Path) -> None:
    path, data = zipped(tmp_path)
    path.write_bytes(data[:cut])
    with pytest.raises(BadFile):
        open_any(path)


@pytest.mark.parametrize("cut", [16, 40, 200, -1, -300])
def test_a_cut_older_file_is_refused(cut: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"w": torch.ones(64)}, zipped=False)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadFile):
        open_any(path)


def test_bytes_behind_an_older_file_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"w": torch.ones(64)}, zipped=False)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BadFile, match="bytes that belong to no storage"):
        open_any(path)


def altered(data: bytearray, mark: bytes, at: int, value: bytes, which: int = 0) -> bytes:
    """The bytes with a field of the `which`-th record of a kind changed."""
    place = -1
    for _ in range(which + 1):
        place = data.index(mark, place + 1)
    return bytes(data[: place + at] + value + data[place + at + len(value) :])


LOCAL, CENTRAL, END, END64 = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06"
CONTAINERS: dict[str, tuple[bytes, int, bytes, str]] = {
    "compressed": (CENTRAL, 10, b"\x08", "compressed entries"),
    "compressed below": (LOCAL, 8, b"\x08", "compressed entries"),
    "encrypted": (CENTRAL, 8, b"\x01", "encrypted or unusual"),
    "encrypted below": (LOCAL, 6, b"\x01", "encrypted or unusual"),
    "two sizes": (CENTRAL, 20, b"\x01\0\0\0", "two sizes differ"),
    "another name below": (LOCAL, 31, b"X", "its directory lists otherwise"),
    "another place": (CENTRAL, 42, b"\x07\0\0\0", "no whole zip archive"),
    "one entry less": (END64, 32, b"\x01", "is broken"),
    "a comment": (END, 20, b"\x01", "no whole zip archive"),
    "many disks": (END, 4, b"\x01", "no whole zip archive"),
    "a directory elsewhere": (END64, 48, b"\x01\0", "another one says otherwise"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_an_ambiguous_archive_is_refused(name: str, tmp_path: Path) -> None:
    mark, at, value, message = CONTAINERS[name]
    path, data = zipped(tmp_path)
    path.write_bytes(altered(data, mark, at, value))
    with pytest.raises(BadFile, match=message):
        open_any(path)


def test_deflated_archives_are_refused_before_they_are_inflated(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", tensor(count=2**24, shape=(2**24,)))
        file.writestr("archive/data/0", b"\0" * 2**26)
    with pytest.raises(BadFile, match="compressed entries"):
        open_any(path)


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"N.")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("archive/data.pkl", b"N.")
    with pytest.raises(BadFile, match="two entries of one name"):
        open_any(path)


@pytest.mark.parametrize("front", [True, False])
def test_bytes_around_an_archive_are_refused(front: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    data = archive_of(tensor(), EIGHT)
    path.write_bytes(LOCAL + b"x" * 40 + data if front else data + b"x" * 40)
    with pytest.raises(BadFile):
        open_any(path)


def test_names_that_share_a_storage_many_times_are_a_bomb(tmp_path: Path) -> None:
    shared = torch.zeros(100_000)
    path = save(tmp_path / "a.pth", {str(n): shared for n in range(3)})
    with pytest.raises(BadFile, match="more tensors than it has bytes for"):
        open_any(path)
