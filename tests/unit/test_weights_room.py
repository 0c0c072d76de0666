"""The memory that weights are read into: side by side, in small pages that the system finds in advance."""

from __future__ import annotations

import platform
import resource
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from atelier.weights.archive import open_any
from atelier.weights.formats import filling
from atelier.weights.formats.room import Room, claim

SIZE, PAGE = 2**24, resource.getpagesize()
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the pages")
NEW_ENOUGH = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdigit()) >= (5, 14)


def faults(tensor: Tensor) -> int:
    """Of a write to each page of it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensor.fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_tensors_lie_side_by_side_and_start_at_zero() -> None:
    room = Room([4 * 3, 2 * 5, 4 * 24])
    first, second = room.tensor((3,), torch.float32), room.tensor((5,), torch.bfloat16)
    kernel = room.tensor((2, 3, 2, 2), torch.float32, channels_last=True)
    assert second.data_ptr() - first.data_ptr() == kernel.data_ptr() - second.data_ptr() == 64
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not any(tensor.count_nonzero() for tensor in (first, second, kernel))
    with pytest.raises(ValueError, match="more was asked for than there is room for"):
        room.tensor((1,), torch.uint8)


def test_memory_outlives_the_room_that_made_it() -> None:
    tensor = Room([SIZE]).tensor((SIZE,), torch.uint8)
    assert tensor.fill_(7).eq(7).all()


@linux
@pytest.mark.skipif(not NEW_ENOUGH, reason="Linux finds pages in advance since 5.14")
def test_claimed_memory_is_there_before_it_is_written() -> None:
    room = Room([SIZE, SIZE])
    plain, claimed = room.tensor((SIZE,), torch.uint8), room.tensor((SIZE,), torch.uint8)
    claim(claimed)
    assert faults(claimed) < 100
    assert faults(plain) > 0.9 * SIZE / PAGE, "pages of the usual size"


@linux
@pytest.mark.skipif(not THP.exists(), reason="a system without huge pages")
def test_weights_take_no_huge_pages() -> None:
    tensor = Room([SIZE]).tensor((SIZE,), torch.uint8)
    areas = Path("/proc/self/smaps").read_text(encoding="ascii").split("VmFlags:")
    for area, flags in pairwise(areas):
        bounds = next(line for line in area.splitlines() if "-" in line and ":" in line).split()[0]
        first, end = (int(bound, 16) for bound in bounds.split("-"))
        if first <= tensor.data_ptr() < end:
            assert "nh" in flags.splitlines()[0].split()
            return
    pytest.fail("its memory is in no area")


def test_claiming_changes_no_number() -> None:
    numbers = torch.arange(3 * PAGE, dtype=torch.int32)
    claim(numbers[5:-5])
    claim(numbers[:0])
    assert numbers.equal(torch.arange(3 * PAGE, dtype=torch.int32))


def test_all_of_what_is_filled_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"kernel": torch.ones(8, 6, 3, 3), "matrix": torch.ones(40, 50)}, tmp_path / "a.safetensors")
    claimed: list[tuple[int, int]] = []

    def note(rows: Tensor) -> None:
        claimed.append((rows.data_ptr(), rows.nbytes))

    monkeypatch.setattr(filling, "claim", note)
    monkeypatch.setattr(filling, "STRETCH", 100)
    archive = open_any(tmp_path / "a.safetensors")
    found = archive.load(archive.tensors, dtype=torch.float16, mapped=False, channels_last=True)
    bounds = sorted((start, start + size) for start, size in claimed)
    for tensor in found.values():
        mine = [each for each in bounds if tensor.data_ptr() <= each[0] < tensor.data_ptr() + tensor.nbytes]
        assert len(mine) >= 2
        assert (mine[0][0], mine[-1][1]) == (tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes)
        assert all(before[1] == after[0] for before, after in pairwise(mine))
