"""What is kept of encoded images and captions: named by content, whole or made again."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atelier.errors import BadFile, StorageFull
from atelier.train.data.cache import Cache, Floats, excerpt_key, text_key
from atelier.train.data.excerpts import Excerpt
from teaching_support import encoded, pack, save

NAMES = ("mean", "spread")


class _Encoder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Mapping[str, Floats]:
        self.asked += 1
        return {"mean": np.full((4, 2, 3), 0.1, np.float32), "spread": np.arange(24, dtype=np.float16).reshape(4, 2, 3)}


def test_arrays_are_made_once(tmp_path: Path) -> None:
    cache, encoder = Cache.open(tmp_path / "a" / "cache"), _Encoder()
    made = [cache.arrays("k", NAMES, encoder), Cache.open(cache.folder).arrays("k", NAMES, encoder)]
    assert encoder.asked == 1
    for arrays in made:
        assert list(arrays) == ["mean", "spread"]
        assert (arrays["mean"].dtype, arrays["spread"].dtype) == (np.float32, np.float16)
        assert all(np.array_equal(arrays[name], encoder()[name]) for name in NAMES)
    cache.arrays("other", ("mean",), encoder)
    assert sorted(path.name for path in cache.folder.iterdir()) == ["k.npz", "other.npz"]


def test_what_is_made_lies_in_memory_as_what_is_read(tmp_path: Path) -> None:
    """A convolution rounds otherwise what is channels-last, and a run that goes on would have other bits."""
    made = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4).transpose(0, 3, 1, 2)
    assert made.strides == (96, 4, 48, 16)
    for _ in range(2):
        found = Cache.open(tmp_path).arrays("k", ("mean",), lambda: {"mean": made})["mean"]
        assert found.strides == (96, 24, 12, 4)
        assert np.array_equal(found, made)


@pytest.mark.parametrize("damage", ["empty", "cut", "bits", "foreign", "less"])
def test_damaged_files_are_made_again(tmp_path: Path, damage: str) -> None:
    cache, encoder = Cache.open(tmp_path), _Encoder()
    cache.arrays("k", ("mean",) if damage == "less" else NAMES, encoder)
    data = bytearray(cache.path("k").read_bytes())
    place = data.index(np.float32(0.1).tobytes()) if damage == "bits" else 0
    data[place] ^= 255 * (damage in ("bits", "foreign"))
    cache.path("k").write_bytes({"empty": b"", "cut": data[:200]}.get(damage, bytes(data)))
    arrays = cache.arrays("k", NAMES, encoder)
    assert encoder.asked == 2
    assert np.array_equal(arrays["mean"], encoder()["mean"])
    asked = encoder.asked
    cache.arrays("k", NAMES, encoder)
    assert encoder.asked == asked


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache.open(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull, match=r"k\.npz: the disk is full"):
        cache.arrays("k", NAMES, _Encoder())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadFile, match="cannot keep encoded images and captions"):
        Cache.open(tmp_path / "file")


def test_left_overs_are_cleared(tmp_path: Path) -> None:
    left = tmp_path / f".tmp-{'0' * 32}"
    left.write_text("x")
    os.utime(left, (1, 1))
    Cache.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_of_all_that_counts_and_of_nothing_else(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    seen = Excerpt(path, (32, 48), (64, 64), 1, 2, flipped=False, original=(64, 64), caption="x")
    others = [
        replace(seen, size=(48, 32)),
        replace(seen, scaled=(65, 64)),
        replace(seen, left=2),
        replace(seen, top=1),
        replace(seen, flipped=True),
        replace(seen, path=save(tmp_path / "b.png", colour="blue")),
    ]
    keys = {excerpt_key(seen, "vae"), excerpt_key(seen, "other"), *(excerpt_key(other, "vae") for other in others)}
    assert len(keys) == 8
    assert all(len(key) == 64 for key in keys)
    moved = save(tmp_path / "more" / "c.png")
    moved.write_bytes(path.read_bytes())
    same = replace(seen, path=moved, caption="y", weight=0.5, is_class=True, mask=path)
    assert excerpt_key(same, "vae") == excerpt_key(seen, "vae")
    shard = pack(tmp_path / "0.tar", {"x.png": path.read_bytes(), "y.png": encoded((9, 9))})
    assert excerpt_key(replace(seen, path=shard / "x.png"), "vae") == excerpt_key(seen, "vae")
    assert excerpt_key(replace(seen, path=shard / "y.png"), "vae") not in keys
    before = excerpt_key(seen, "vae")
    path.write_bytes(encoded((64, 64), "green"))
    os.utime(path, (5, 5))
    assert excerpt_key(seen, "vae") != before
    path.unlink()
    with pytest.raises(BadFile, match=r"a\.png: cannot be read"):
        excerpt_key(seen, "vae")


def test_keys_of_texts() -> None:
    others = [("b", "e", 1, 1), ("", "e", 1, 1), ("a", "f", 1, 1), ("a", "e", 2, 1), ("a", "e", 1, 2)]
    assert len({text_key("a", "e", 1, 1), *(text_key(*own) for own in others)}) == 6
    assert text_key("a", "e", 1, 1) == text_key("a", "e", 1, 1)
