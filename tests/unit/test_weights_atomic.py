"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from atelier.errors import BadFile, StorageFull
from atelier.weights.formats import atomic
from atelier.weights.formats.atomic import STALE_SECONDS, new_file, new_folder, sweep
from atelier.weights.formats.safetensors import save


def write(path: Path, content: bytes) -> None:
    with new_file(path) as file:
        file.write(content)


def test_a_file_appears_with_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with new_file(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


def interrupted(file: BinaryIO) -> None:
    file.write(b"second")
    raise KeyboardInterrupt


def test_an_early_end_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, b"first")
    with pytest.raises(KeyboardInterrupt), new_file(path) as file:
        interrupted(file)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"first", [path])


def test_a_name_may_be_taken_only_once(tmp_path: Path) -> None:
    write(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError), new_file(tmp_path / "a", replace=False) as file:
        file.write(b"second")
    with new_file(tmp_path / "b", replace=False) as file:
        file.write(b"third")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"first", "b": b"third"}


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 64 KiB: the system refuses the write itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_refused_write_is_storage_full_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save(path, {"a": torch.zeros(10)})
    before = path.read_bytes()
    with pytest.raises(StorageFull, match=r"weights\.safetensors: the disk is full"):
        save(path, {"a": torch.zeros(100_000)})
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_every_later_refusal_leaves_nothing(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", b"first")

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((atomic.os, "fsync", refuse) if call == "fsync" else (Path, "replace", refuse)))
    with pytest.raises(BadFile if number == errno.EIO else StorageFull):
        write(tmp_path / "a", b"second")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"first"}


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"the folder .*absent does not exist"):
        write(tmp_path / "absent" / "a", b"")
    with pytest.raises(BadFile, match="cannot be written"):
        write(Path("/proc/atelier"), b"")


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    for mask in (0o022, 0o077):
        old = os.umask(mask)
        try:
            save(tmp_path / f"{mask}", {"a": torch.zeros(1)})
        finally:
            os.umask(old)
        assert (tmp_path / f"{mask}").stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_file_is_synced_before_it_is_named_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        calls.append("name")
        return replace(path, target)

    monkeypatch.setattr(atomic.os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write(tmp_path / "a", b"x")
    assert calls[0].startswith("sync .tmp-")
    assert calls[1:] == ["name", f"sync {tmp_path.name}"]


def test_a_folder_appears_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as place:
        (place / "unet").mkdir()
        write(place / "unet" / "a", b"1")
        assert not (tmp_path / "model").exists()
    assert (tmp_path / "model" / "unet" / "a").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    with new_folder(target) as place:  # an empty one may be filled
        write(place / "a", b"1")
    with pytest.raises(BadFile, match="exists already"), new_folder(target):
        pass
    with pytest.raises(BadFile, match=r"folder .* does not exist"), new_folder(target, overwrite=True) as place:
        write(place / "absent" / "b", b"2")
    assert [path.name for path in target.iterdir()] == ["a"]
    with new_folder(target, overwrite=True) as place:
        write(place / "b", b"2")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_is_replaced_steps_aside_under_a_name_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    with new_folder(target) as place:
        write(place / "a", b"1")
    rename = Path.rename

    def killed_after(self: Path, other: Path) -> Path:
        moved = rename(self, other)
        stale = time.time() - STALE_SECONDS - 1
        os.utime(moved, (stale, stale))
        sweep(tmp_path)
        assert (moved / "a").read_bytes() == b"1", "the only good copy is not swept"
        assert moved.name.startswith("model.old-")
        raise SystemExit(9)

    monkeypatch.setattr(Path, "rename", killed_after)
    with pytest.raises(SystemExit), new_folder(target, overwrite=True) as place:
        write(place / "b", b"2")


def test_sweeping_takes_old_leftovers_of_both_kinds_and_nothing_else(tmp_path: Path) -> None:
    stale = time.time() - STALE_SECONDS - 1
    old, fresh, foreign = (tmp_path / name for name in (f".tmp-{'a' * 32}", f".tmp-{'b' * 32}", ".tmp-mine"))
    for folder in (old, fresh, foreign):
        folder.mkdir()
        (folder / "weights").write_bytes(b"1")
    file = tmp_path / f".tmp-{'c' * 32}"
    file.write_bytes(b"1")
    for path in (old, foreign, file):
        os.utime(path, (stale, stale))
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {fresh.name, foreign.name}
