"""Images are written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from atelier.errors import BadFile, StorageFull
from atelier.runtime.store import Destination, encoded, remove_empty
from atelier.weights.formats.atomic import STALE_SECONDS

PICTURE = Image.effect_noise((64, 48), 80).convert("RGB")
TEXT = "a cat\nSteps: 1, Seed: 7, Size: 64x48"


def save(output: Path, **more: int) -> Path:
    return Destination.of(str(output)).save(PICTURE, TEXT, **{"index": 0, "count": 1, "seed": 7} | more)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize(("text", "chunk"), [(TEXT, b"tEXt"), ("a 猫\nSteps: 1", b"iTXt")])
def test_a_png_carries_its_text(tmp_path: Path, text: str, chunk: bytes):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(PICTURE, text))
    with Image.open(path) as image:
        assert image.info["parameters"] == text
        assert image.tobytes() == PICTURE.tobytes()
    assert chunk + b"parameters\0" in path.read_bytes()


def test_a_folder_counts_on(tmp_path: Path):
    (tmp_path / "00041-old.png").touch()
    (tmp_path / "123.txt").touch()
    assert save(tmp_path).name == "00042-7.png"
    assert save(tmp_path, seed=9).name == "00043-9.png"


def test_a_file_name_is_taken_and_replaced(tmp_path: Path):
    path = tmp_path / "cat.PNG"
    path.write_bytes(b"old")
    assert save(path) == path
    with Image.open(path) as image:
        image.load()
    assert names(tmp_path) == ["cat.PNG"]


def test_several_pictures_share_a_file_name(tmp_path: Path):
    assert save(tmp_path / "cat.png", index=1, count=2) == tmp_path / "cat-2.png"


def test_a_folder_may_look_like_a_file(tmp_path: Path):
    (tmp_path / "x.png").mkdir()
    assert Destination.of(str(tmp_path / "x.png")).file is None
    assert Destination.of(str(tmp_path / "new.d")).folder == tmp_path / "new.d"
    assert Destination.of(str(tmp_path / "y.png") + "/").folder == tmp_path / "y.png"


def test_prepare_makes_the_folder_and_sweeps_what_was_left(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    old, fresh, foreign = folder / f".tmp-{'0' * 32}", folder / f".tmp-{'1' * 32}", folder / ".tmp-mine"
    for path in (old, fresh, foreign):
        path.touch()
    stale = time.time() - STALE_SECONDS - 1
    for path in (old, foreign):
        os.utime(path, (stale, stale))
    Destination.of(str(folder)).prepare()
    assert names(folder) == sorted([fresh.name, foreign.name])


def test_folders_that_stay_empty_are_removed_innermost_first(tmp_path: Path):
    made = Destination.of(f"{tmp_path / 'a' / 'b'}/").prepare()
    assert made == (tmp_path / "a" / "b", tmp_path / "a")
    (tmp_path / "a" / "kept").touch()
    remove_empty(made)
    assert names(tmp_path / "a") == ["kept"]
    (tmp_path / "a" / "kept").unlink()
    remove_empty(made)
    assert names(tmp_path) == []


def test_prepare_refuses_what_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(BadFile, match="file") as caught:
        Destination.of(str(tmp_path / "file" / "sub")).prepare()
    assert "\n" not in str(caught.value)


def test_what_refuses_pictures_is_the_folder_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    folder = tmp_path / "pictures"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)
        with pytest.raises(BadFile) as caught:
            Destination.of(str(folder)).prepare()
    assert str(caught.value) == f"{folder}: cannot be written (Read-only file system): choose another folder"
    for name in ("x" * 300, "x" * 300 + ".png"):
        with pytest.raises(BadFile, match="File name too long"):
            Destination.of(str(tmp_path / name))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB; needs root."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_one_line_and_leaves_nothing(full_disk: Path):
    noise = Image.frombytes("RGB", (256, 256), os.urandom(3 * 256 * 256))
    (full_disk / "00001-1.png").write_bytes(b"kept")
    for output in (full_disk, full_disk / "cat.png"):
        with pytest.raises(StorageFull, match="full") as caught:
            Destination.of(str(output)).save(noise, TEXT, index=0, count=1, seed=1)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
        assert names(full_disk) == ["00001-1.png"]
    assert (full_disk / "00001-1.png").read_bytes() == b"kept"
    assert save(full_disk).exists(), "the disk has room for a small image"


CALLS = [(os, "fsync"), (Path, "replace"), (Path, "hardlink_to"), (Path, "open")]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize(("owner", "name"), CALLS)
@pytest.mark.parametrize("file", ["", "cat.png"])
def test_any_call_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: int, file: str
):
    """The n-th call fails for n = 1, 2, … until the image is saved: a typed error, nothing half-written."""
    real, kept = getattr(owner, name), tmp_path / "00001-1.png"
    for nth in range(1, 10):
        kept.write_bytes(b"kept")
        calls = 0

        def fails(*args: object, _nth: int = nth, **more: object) -> object:
            nonlocal calls
            calls += 1
            if calls == _nth:
                raise OSError(error, os.strerror(error))
            return real(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fails)
            outcome = _saved_or_refused(tmp_path / file)
        assert not any(n.startswith(".tmp-") for n in names(tmp_path))
        assert all(_whole(tmp_path / n) for n in names(tmp_path) if n != kept.name)
        assert kept.read_bytes() == b"kept"
        if isinstance(outcome, Path):
            assert _whole(outcome)
        else:
            assert isinstance(outcome, StorageFull) == (error == errno.ENOSPC)
            assert "\n" not in str(outcome)
        if calls < nth:
            return
    pytest.fail("never ran to its end")


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path)
    assert names(tmp_path) == []


def test_many_writers_never_take_one_name(tmp_path: Path):
    saved: list[Path] = []
    threads = [threading.Thread(target=lambda: saved.append(save(tmp_path))) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(saved)) == 24
    assert all(_whole(path) for path in saved)


@pytest.mark.parametrize("mask", ["022", "027", "077"])
def test_files_follow_the_umask(tmp_path: Path, mask: str):
    code = (
        f"import os; os.umask(0o{mask})\n"
        "from PIL import Image; from atelier.runtime.store import Destination\n"
        f"Destination.of({str(tmp_path)!r}).save(Image.new('RGB', (8, 8)), '', index=0, count=1, seed=0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o666 & ~int(mask, 8)


def _saved_or_refused(output: Path) -> Path | BadFile | StorageFull:
    try:
        return save(output)
    except (BadFile, StorageFull) as refused:
        return refused


def _whole(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
    return True
