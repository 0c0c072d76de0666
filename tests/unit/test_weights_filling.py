"""Tensors read by several threads: the right numbers in the right places, and one error whichever thread meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from io import FileIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from atelier.errors import BadFile
from atelier.weights.archive import open_any
from atelier.weights.formats import filling, stamps
from atelier.weights.formats.filling import Filler, Stretch

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
SHAPES = {"matrix": (37, 41), "bias": (53,), "kernel": (7, 6, 3, 3), "pointwise": (9, 8, 1, 1), "scale": ()}
OTHER, MINE = "the other thread", "this thread"
SECONDS = 120.0
"""How long a thread waits for the other one, on a busy machine."""


def every_kind() -> dict[str, Tensor]:
    """Every dtype in every shape, also shapes without numbers; no two tensors alike."""
    random = torch.Generator().manual_seed(1)
    found = {"nothing": torch.empty(0, 4), "no channels": torch.empty(3, 0, 3, 3)}
    for dtype in DTYPES:
        for name, shape in SHAPES.items():
            numbers = torch.randn(shape, generator=random).mul(9)
            found[f"{name} {dtype}"] = numbers.to(dtype)
    return found


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """For files of any size, in stretches, pieces and grains that no shape is a multiple of."""
    for bound, numbers in (("WORTH_A_THREAD", 1), ("STRETCH", 101), ("PIECE", 47), ("GRAIN", 23)):
        monkeypatch.setattr(filling, bound, numbers)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(every_kind(), tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def on_filling(act: Callable[[Stretch, bool], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls `act` before each stretch, in its thread, and says whether that is the one that loads."""
    fill, main = Filler.fill, threading.get_ident()

    def acting(self: Filler, part: Stretch) -> None:
        act(part, threading.get_ident() == main)
        fill(self, part)

    monkeypatch.setattr(Filler, "fill", acting)


def meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread reads before the other one has something to read of the same file."""
    both, met, fill = threading.Barrier(2, timeout=SECONDS), set[Filler](), Filler.fill

    def wait(self: Filler, part: Stretch) -> None:
        if self not in met:
            met.add(self)
            both.wait()
        fill(self, part)

    monkeypatch.setattr(Filler, "fill", wait)


def same(found: Tensor, expected: Tensor) -> bool:
    """The same bits."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    return found.contiguous().view(-1).view(torch.uint8).equal(expected.contiguous().view(-1).view(torch.uint8))


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2])
@pytest.mark.parametrize("last", [False, True])
def test_two_threads_read_what_the_library_reads(
    last: bool, dtype: torch.dtype | None, two_threads: None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting(monkeypatch)
    archive = open_any(file)
    found = archive.load(archive.tensors, dtype=dtype, mapped=False, channels_last=last)
    for name, tensor in load_file(file).items():
        expected = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        assert same(found[name], expected), name
        if last and name.startswith("kernel"):
            assert found[name].is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.parametrize("zipped", [True, False])
def test_two_threads_read_what_torch_saved(
    zipped: bool, two_threads: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tensors that lie in another order than their numbers, or share their numbers with others."""
    tensors = every_kind()
    tensors |= {"turned": torch.randn(31, 29).t(), "shared": tensors["matrix torch.float32"][3:]}
    torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    meeting(monkeypatch)
    archive = open_any(tmp_path / "a.pth")
    found = archive.load(archive.tensors, mapped=False)
    assert found.keys() == tensors.keys()
    assert all(same(found[name], tensor) for name, tensor in tensors.items())


def test_two_threads_read_shards(two_threads: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, files = every_kind(), ("one.safetensors", "two.safetensors")
    placed = {name: files[number % 2] for number, name in enumerate(tensors)}
    for shard in files:
        save_file({name: tensors[name] for name in tensors if placed[name] == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}))
    meeting(monkeypatch)
    archive = open_any(index)
    found = archive.load(archive.tensors, dtype=torch.bfloat16, mapped=False)
    halved = {n: t.bfloat16() if t.is_floating_point() else t for n, t in tensors.items()}
    assert all(same(found[name], tensor) for name, tensor in halved.items())


class Stingy(FileIO):
    """Gives three bytes at a time, as a file on the network may give fewer than were asked for."""

    def readinto(self, buffer: memoryview, /) -> int | None:  # pyright: ignore[reportIncompatibleMethodOverride] - only it is given
        return super().readinto(buffer[:3])


def test_a_read_may_give_less_than_was_asked_for(
    two_threads: None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_any(file)
    monkeypatch.setattr(filling, "opened", Stingy)
    found = archive.load(archive.tensors, dtype=torch.float16, mapped=False)
    for name, tensor in load_file(file).items():
        assert same(found[name], tensor.half() if tensor.is_floating_point() else tensor), name


@pytest.mark.parametrize("failing", [OTHER, MINE])
def test_one_thread_fails_and_none_goes_on(
    failing: str, two_threads: None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is cut: whoever meets its end says so, and the other thread stops after what it is at."""
    begun, over, later = threading.Event(), threading.Event(), list[int]()

    class Waiting(deque[Stretch]):
        def clear(self) -> None:
            super().clear()
            over.set()

    def act(part: Stretch, main: bool) -> None:
        if main == (failing == MINE):
            assert begun.wait(SECONDS), "the other one is at work"
            raise BadFile(file, "shrank while it was being read")
        later.append(part.start)
        begun.set()
        assert over.wait(SECONDS), "the one that failed says so"

    monkeypatch.setattr(filling, "deque", Waiting)
    on_filling(act, monkeypatch)
    archive = open_any(file)
    with pytest.raises(BadFile, match=r"a\.safetensors: shrank while it was being read"):
        archive.load(archive.tensors, mapped=False)
    assert len(later) == 1, "of some hundred"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_a_file_that_is_cut_is_told_by_whoever_reads_on(
    two_threads: None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = file.stat().st_size
    meeting(monkeypatch)
    on_filling(lambda part, _: os.truncate(file, size // 2) if part.start > size // 2 else None, monkeypatch)
    archive = open_any(file)
    with pytest.raises(BadFile, match="shrank while it was being read"):
        archive.load(archive.tensors, mapped=False)


def test_each_thread_sees_that_it_opened_another_file(
    two_threads: None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced by its equal after the first thread opened it."""
    archive, data = open_any(file), file.read_bytes()
    left, twice, one_at_a_time = ["once"], threading.Event(), threading.Lock()

    def replacing(path: Path) -> FileIO:
        with one_at_a_time:
            found = stamps.opened(path)
            if not left:
                twice.set()
                return found
            left.pop()
            (path.parent / "new").write_bytes(data)
            (path.parent / "new").replace(path)
            return found

    def wait(_part: Stretch, _main: bool) -> None:
        assert twice.wait(SECONDS)

    on_filling(wait, monkeypatch)
    monkeypatch.setattr(filling, "opened", replacing)
    with pytest.raises(BadFile, match="changed while it was being read"):
        archive.load(archive.tensors, mapped=False)


def test_tensors_of_inference_can_be_filled_by_threads(
    two_threads: None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting(monkeypatch)
    archive = open_any(file)
    with torch.inference_mode():
        found = archive.load(archive.tensors, dtype=torch.bfloat16, mapped=False, channels_last=True)
    assert same(found["kernel torch.float16"], load_file(file)["kernel torch.float16"].bfloat16())


@pytest.mark.parametrize("threads", [1, 2])
def test_small_files_and_one_thread_need_no_other(threads: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    if threads == 1:
        monkeypatch.setattr(filling, "WORTH_A_THREAD", 1)
    torch.set_num_threads(threads)
    seen = set[bool]()
    on_filling(lambda _, main: seen.add(main), monkeypatch)
    try:
        archive = open_any(file)
        archive.load(archive.tensors, mapped=False)
    finally:
        torch.set_num_threads(before)
    assert seen == {True}


COUNTED = """
import os, sys, torch
from atelier.weights.archive import open_any
torch.set_num_threads(2)
archive = open_any(__import__("pathlib").Path(sys.argv[1]))
before = len(os.listdir("/proc/self/task"))
archive.load(archive.tensors, dtype=torch.bfloat16, mapped=False, channels_last=True)
print(len(os.listdir("/proc/self/task")) - before)
torch.zeros(2**20).half()
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux shows them")
def test_torch_divides_no_piece_among_threads_of_its_own(tmp_path: Path) -> None:
    """What it would divide, it divides: the second number."""
    save_file({"a": torch.zeros(2**20).half(), "b": torch.zeros(640, 64, 3, 3)}, tmp_path / "a.safetensors")
    command = [sys.executable, "-c", COUNTED, str(tmp_path / "a.safetensors")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0", "1"]
