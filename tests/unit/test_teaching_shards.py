"""Webdataset shards: read where they lie, and bounded whatever they say of themselves."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.errors import BadFile
from atelier.train.data import sharded, shards
from atelier.train.data.examples import read
from atelier.train.data.excerpts import pixels
from atelier.train.data.subsets import Listener, Subset
from atelier.train.data.teaching import TeachingSet
from teaching_support import encoded, pack, save

SUBSET = Subset((64, 64))


def _shard(path: Path) -> Path:
    table = {"caption": "from the table", "width": 64, "status": "success"}
    return pack(
        path,
        {
            "000.png": encoded((64, 96), "red"),
            "000.txt": b"a red wall\n",
            "000.json": json.dumps(table).encode(),
            "a/001.seg.png": b"is not the image",
            "a/001.PNG": encoded((80, 64), "blue"),
            "a/001.json": json.dumps(table).encode(),
            "002.cls": b"7",
        },
    )


def test_images_and_captions_in_a_shard(tmp_path: Path) -> None:
    shard = _shard(tmp_path / "0.tar")
    _shard(tmp_path / "1.tar")
    save(tmp_path / "beside.png")
    notes: list[str] = []
    found = read(tmp_path, SUBSET, Listener(note=notes.append))
    assert [(e.path.relative_to(tmp_path).as_posix(), e.size, e.caption) for e in found[:2]] == [
        ("0.tar/000.png", (64, 96), "a red wall"),
        ("0.tar/a/001.PNG", (80, 64), "from the table"),
    ]
    assert len(found) == 4
    assert len(notes) == 1
    assert read(shard, SUBSET) == found[:2]
    data = TeachingSet.of(found, batch=1, seed=0)
    seen = {excerpt.path.name: pixels(excerpt) for step in range(4) for excerpt in data.excerpts(step)}
    assert (seen["000.png"] == (255, 0, 0)).all()
    assert (seen["001.PNG"] == (0, 0, 255)).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.tar", "1.tar", "beside.png"]
    before = data.fingerprint()
    pack(tmp_path / "1.tar", {"000.png": encoded((64, 96), "green")})
    assert data.fingerprint() != before


def test_a_shard_that_changed_is_read_anew(tmp_path: Path) -> None:
    shard = _shard(tmp_path / "0.tar")
    (red, blue) = read(shard, SUBSET)
    pack(shard, {"x.txt": b"first", "000.png": encoded((64, 64), "green")})
    (excerpt,) = TeachingSet.of([red], batch=1, seed=0).excerpts(0)
    assert np.array_equal(pixels(excerpt)[0, 0], (0, 128, 0))
    with pytest.raises(BadFile, match=r"001\.PNG: is not in its shard any more"):
        pixels(TeachingSet.of([blue], batch=1, seed=0).excerpts(0)[0])


def test_broken_images_and_captions_in_a_shard(tmp_path: Path) -> None:
    files = {
        "a.png": b"no image", "a.txt": b"x",
        "b.png": encoded(), "b.json": b"{",
        "c.png": encoded(), "c.txt": b"\xff",
        "d.png": encoded(), "d.txt": b"x" * (sharded.LONGEST_TEXT + 1),
        "e.png": encoded(), "e.json": b'{"caption": 5}',
        "f.png": encoded(), "f.txt": b"", "f.caption": b"fine",
    }  # fmt: skip
    refused: list[BadFile] = []
    found = read(pack(tmp_path / "0.tar", files), SUBSET, Listener(refused.append))
    assert [(example.path.name, example.caption) for example in found] == [("f.png", "fine")]
    assert sorted((Path(e.path).name, e.problem.split(" (")[0].split(":")[0]) for e in refused) == [
        ("a.png", "broken image"),
        ("b.json", "is no JSON"),
        ("c.txt", "is no text in UTF-8"),
        ("d.txt", "is no caption"),
        ("e.png", "has no caption"),
    ]


def test_links_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encoded())
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.png")
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            tar.addfile(info)
    assert shards.members(tmp_path / "0.tar") == {}
    with pytest.raises(BadFile, match="holds no images"):
        read(tmp_path / "0.tar", SUBSET)


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFile, match="a name that leads out of it"):
        read(pack(tmp_path / "0.tar", {name: encoded()}), SUBSET)


def test_what_is_no_shard_or_too_much_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = _shard(tmp_path / "0.tar")
    whole = shard.read_bytes()
    for length in (100, 700, whole.index(b"is not the image") + 8):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(BadFile, match=r"cut\.tar: is no uncompressed tar file, or a damaged one"):
            read(tmp_path / "cut.tar", SUBSET)
    (tmp_path / "text.tar").write_bytes(b"hello" * 400)
    with pytest.raises(BadFile, match=r"text\.tar: is no uncompressed tar file"):
        read(tmp_path / "text.tar", SUBSET)
    monkeypatch.setattr(shards, "MOST", 7)
    assert len(shards.members(_shard(tmp_path / "seven.tar"))) == 7
    monkeypatch.setattr(shards, "MOST", 6)
    with pytest.raises(BadFile, match="more than 6 members"):
        read(_shard(tmp_path / "many.tar"), SUBSET)
    monkeypatch.setattr(shards, "LARGEST", 100)
    with pytest.raises(BadFile, match=r"holds 000\.png, \d+ bytes: a training image has 100 at most"):
        read(_shard(tmp_path / "large.tar"), SUBSET)


def test_headers_are_never_read_far_at_once(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"c": "x" * 2**21}) as tar:
        tar.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    with pytest.raises(BadFile, match="a header of 209"):
        read(tmp_path / "0.tar", SUBSET)


def test_sizes_below_nothing(tmp_path: Path) -> None:
    """tarfile of some releases of Python goes round in circles."""
    info = tarfile.TarInfo("a.png")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfa\x00"
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:512]) + 8 * 32)
    (tmp_path / "0.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(BadFile, match=r"0\.tar: "):
        read(tmp_path / "0.tar", SUBSET)


def test_headers_for_headers(tmp_path: Path) -> None:
    """tarfile calls itself for the header that a header is about."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    chain = (info.tobuf(tarfile.GNU_FORMAT) + b"x\0".ljust(512, b"\0")) * 2000
    (tmp_path / "0.tar").write_bytes(chain + tarfile.TarInfo("a.png").tobuf() + bytes(1024))
    with pytest.raises(BadFile, match=r"0\.tar: is no uncompressed tar file, or a damaged one"):
        read(tmp_path / "0.tar", SUBSET)


@given(st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 255)), min_size=1, max_size=5))
def test_damaged_shards_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shard = pack(Path(folder) / "0.tar", {"a.png": encoded(), "b" * 120 + ".txt": b"x", "c.json": b"{}"})
        data = bytearray(shard.read_bytes())
        for place, value in changes:
            data[place % len(data)] = value
        shard.write_bytes(bytes(data))
        with suppress(BadFile):
            assert all(member.length >= 0 for member in shards.members(shard).values())
