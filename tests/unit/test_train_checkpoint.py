"""Checkpoints are there whole or not at all."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from atelier.errors import BadFile, StorageFull
from atelier.train import checkpoint
from atelier.train.checkpoint import Snapshot


def snapshot(step: int) -> Snapshot:
    random = torch.Generator().manual_seed(step)
    kernel = torch.randn(4, 3, 3, 3, generator=random).to(memory_format=torch.channels_last)
    net = {"kernel": kernel, "scale": torch.tensor(0.1), "bias": torch.tensor([float("nan"), -0.0, 1e-42])}
    return Snapshot(step, {"net": net, "net.ema": {"kernel": kernel / 3}, "new.optimizer": {}}, {"recipe": "abc"})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bits(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Size, bytes]]:
    return {name: (t.shape, t.contiguous().numpy().tobytes()) for name, t in tensors.items()}


def test_round_trip_is_bit_exact(tmp_path: Path) -> None:
    saved = snapshot(7)
    found = checkpoint.load(checkpoint.save(tmp_path, saved, keep=1))
    assert (found.step, found.state) == (7, {"recipe": "abc"})
    assert {stem: bits(dict(t)) for stem, t in found.tensors.items()} == {
        stem: bits(dict(t)) for stem, t in saved.tensors.items()
    }


def test_two_saves_of_the_same_state_have_the_same_bytes(tmp_path: Path) -> None:
    one, other = (checkpoint.save(tmp_path / name, snapshot(3), keep=1) for name in ("one", "other"))
    assert (one / "MANIFEST.json").read_bytes() == (other / "MANIFEST.json").read_bytes()


def _truncate(path: Path) -> None:
    (path / "net.safetensors").write_bytes((path / "net.safetensors").read_bytes()[:-1])


def _write_manifest(content: object) -> Callable[[Path], object]:
    return lambda path: (path / "MANIFEST.json").write_text(json.dumps(content))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a file is truncated": _truncate,
    "a file is gone": lambda path: (path / "net.ema.safetensors").unlink(),
    "the state says another step": lambda path: (path / "state.json").write_text('{"step": 8, "recipe": "abc"}'),
    "the state is gone": lambda path: (path / "state.json").unlink(),
    "there is no manifest": lambda path: (path / "MANIFEST.json").unlink(),
    "the manifest is torn": lambda path: (path / "MANIFEST.json").write_text('{"step": 7, "sha'),
    "the manifest is a list": _write_manifest([1]),
    "the manifest lists nothing": _write_manifest({"sha256": {}}),
    "the manifest lists a list": _write_manifest({"sha256": [1]}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(damage: Callable[[Path], object], tmp_path: Path) -> None:
    good = checkpoint.save(tmp_path, snapshot(6), keep=3)
    bad = checkpoint.save(tmp_path, snapshot(7), keep=3)
    assert checkpoint.newest(tmp_path) == bad
    damage(bad)
    assert not checkpoint.whole(bad)
    assert checkpoint.newest(tmp_path) == good
    assert checkpoint.after(tmp_path, good) == (bad,)
    with pytest.raises(BadFile, match="no whole checkpoint"):
        checkpoint.load(bad)


def test_newest_is_by_number_and_ignores_what_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "nothing") is None
    for step in (99_999_999, 100_000_000):
        checkpoint.save(tmp_path, snapshot(step), keep=9)
    (tmp_path / "step-none").mkdir()
    (tmp_path / "step-999999999").write_text("a file")
    assert checkpoint.newest(tmp_path) == tmp_path / "step-100000000"


def test_only_the_newest_and_the_spare_stay(tmp_path: Path) -> None:
    for step in range(1, 7):
        checkpoint.save(tmp_path, snapshot(step), keep=2, spare=3)
    assert names(tmp_path) == ["step-00000003", "step-00000005", "step-00000006"]


def test_at_every_moment_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when only one is kept, and while a damaged one is replaced."""
    checkpoint.save(tmp_path, snapshot(1), keep=1)
    looks = 0

    def looking(do: Callable[..., object]) -> Callable[..., object]:
        def done(*arguments: object, **named: object) -> object:
            nonlocal looks
            looks += 1
            assert checkpoint.newest(tmp_path) is not None
            result = do(*arguments, **named)
            assert checkpoint.newest(tmp_path) is not None
            return result

        return done

    for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "unlink"), (os, "rmdir"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, looking(getattr(owner, name)))
    for step in (2, 3, 4):
        (tmp_path / f"step-{step + 1:08d}").mkdir()
        checkpoint.save(tmp_path, snapshot(step), keep=1)
    assert looks > 30


def test_a_damaged_newer_one_does_not_push_out_the_good_ones(tmp_path: Path) -> None:
    (tmp_path / "step-00000009").mkdir()
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, snapshot(step), keep=1)
        assert checkpoint.newest(tmp_path) == tmp_path / f"step-{step:08d}"
    assert names(tmp_path) == ["step-00000003", "step-00000009"]


@pytest.mark.parametrize("refusal", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_any_moment_leaves_the_earlier_ones(
    refusal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sync of a save refused in turn, until a save gets through."""
    checkpoint.save(tmp_path, snapshot(1), keep=3)
    sync = os.fsync
    for number in itertools.count(1):
        calls = itertools.count(1)

        def refused(descriptor: int, number: int = number, calls: itertools.count[int] = calls) -> None:
            if next(calls) == number:
                raise OSError(refusal, os.strerror(refusal))
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", refused)
        told = ""
        try:
            checkpoint.save(tmp_path, snapshot(2), keep=3)
        except StorageFull as error:
            told = str(error)
        whole = [path for path in names(tmp_path) if checkpoint.whole(tmp_path / path)]
        assert whole[0] == "step-00000001"
        assert names(tmp_path) == whole, "nothing half-written is left"
        if not told:
            break
        assert "step-00000002: no space for this checkpoint" in told
        assert "earlier ones are intact" in told
    assert number > 8
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes there")
def test_a_write_that_does_not_fit(tmp_path: Path) -> None:
    """The system itself refuses the bytes."""
    import resource

    checkpoint.save(tmp_path, snapshot(1), keep=3)
    large = Snapshot(2, {"net": {"weight": torch.zeros(300_000)}}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StorageFull, match="no space for this checkpoint"):
            checkpoint.save(tmp_path, large, keep=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000001"]
    checkpoint.save(tmp_path, large, keep=3)
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000002"
