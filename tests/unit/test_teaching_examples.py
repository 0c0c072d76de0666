"""Reading training images: kohya's folders, captions, metadata, masks, and what cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from atelier.errors import BadFile
from atelier.train.data.buckets import Buckets
from atelier.train.data.examples import read
from atelier.train.data.subsets import Example, Listener, Subset
from atelier.train.data.teaching import collected
from teaching_support import save

SUBSET = Subset(Buckets.of(64, 16))


def _told(examples: tuple[Example, ...]) -> list[tuple[str, str]]:
    return [(example.path.name, example.caption) for example in examples]


def test_a_folder_with_captions_beside_its_images(tmp_path: Path) -> None:
    save(tmp_path / "b.png", (90, 60), caption=" \n first line \n\nsecond ")
    save(tmp_path / "A.JPG", (50, 70))
    (tmp_path / "A.caption").write_text("a caption")
    save(tmp_path / "more" / "c.webp")
    (tmp_path / "more" / "c.webp.txt").write_text("named after the whole")
    save(tmp_path / "more" / "face_0010_0020_0200_0300.png")
    (tmp_path / "more" / "face.TXT").write_text("a face")
    found = read(tmp_path, SUBSET)
    assert _told(found) == [
        ("A.JPG", "a caption"),
        ("b.png", "first line\nsecond"),
        ("c.webp", "named after the whole"),
        ("face_0010_0020_0200_0300.png", "a face"),
    ]
    assert [example.size for example in found] == [(50, 70), (90, 60), (64, 64), (64, 64)]
    assert all(example.subset == SUBSET for example in found)


def test_the_caption_of_a_name_goes_before_that_of_its_face(tmp_path: Path) -> None:
    save(tmp_path / "face_0010_0020_0200_0300.png", caption="its own")
    (tmp_path / "face.txt").write_text("of all faces")
    assert _told(read(tmp_path, SUBSET)) == [("face_0010_0020_0200_0300.png", "its own")]
    (tmp_path / "face_0010_0020_0200_0300.tags").write_text("of another ending")
    only = replace(SUBSET, endings=(".tags",))
    assert _told(read(tmp_path, only)) == [("face_0010_0020_0200_0300.png", "of another ending")]


def test_folders_as_kohya_has_them(tmp_path: Path) -> None:
    save(tmp_path / "10_zwx person" / "a.png")
    save(tmp_path / "10_zwx person" / "b.png", caption="zwx smiling")
    save(tmp_path / "2_style_of zwx" / "c.png")
    save(tmp_path / "0_nothing" / "d.png")
    save(tmp_path / "other" / "e.png")
    save(tmp_path / "f.png")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    notes: list[str] = []
    found = read(tmp_path, replace(SUBSET, words="not this"), Listener(note=notes.append))
    assert _told(found) == [("a.png", "zwx person"), ("b.png", "zwx smiling"), ("c.png", "style_of zwx")]
    assert [example.subset.repeats for example in found] == [10, 10, 2]
    assert not any(example.subset.is_class for example in found)
    assert [note.split(": ")[0] for note in notes] == [str(tmp_path / name) for name in ("f.png", "other", "0_nothing")]


def test_images_of_the_class(tmp_path: Path) -> None:
    save(tmp_path / "img" / "3_zwx person" / "a.png")
    save(tmp_path / "reg" / "1_person" / "p.png")
    (tmp_path / "reg").rename(tmp_path / "apart")
    assert _told(read(tmp_path, SUBSET)) == [("a.png", "zwx person")]
    (tmp_path / "apart").rename(tmp_path / "reg")
    whole = read(tmp_path, SUBSET)
    assert _told(whole) == [("a.png", "zwx person"), ("p.png", "person")]
    assert [example.subset.is_class for example in whole] == [False, True]
    apart = collected(tmp_path / "img", SUBSET, tmp_path / "reg").examples
    assert [(e.caption, e.subset.is_class, e.subset.repeats) for e in apart] == [
        ("zwx person", False, 3),
        ("person", True, 1),
    ]
    flat = collected(tmp_path / "img", SUBSET, tmp_path / "reg" / "1_person", "a person").examples
    assert _told(flat) == [("a.png", "zwx person"), ("p.png", "a person")]


def test_metadata_beside_the_images(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.png", caption=f"beside {name}")
    save(tmp_path / "more" / "d.png")
    rows = [
        {"file_name": "b.png", "text": "in the table"},
        {"file_name": "./more/d.png", "caption": "deeper", "tags": "x, y", "image_size": [64, 64]},
        {"file_name": "c.png", "text": ""},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert _told(read(tmp_path, SUBSET)) == [
        ("a.png", "beside a"),
        ("b.png", "in the table"),
        ("c.png", "beside c"),
        ("d.png", "deeper, x, y"),
    ]
    (tmp_path / "b.png").unlink()
    with pytest.raises(BadFile, match=r"b\.png: is named in metadata\.jsonl and is not there"):
        read(tmp_path, SUBSET)


def test_metadata_of_kohya(tmp_path: Path) -> None:
    first, second = save(tmp_path / "one.png"), save(tmp_path / "two.jpg")
    save(tmp_path / "unnamed.png")
    table = {str(second): {"caption": "a\nb", "tags": "t,\nu"}, "one": {"tags": "only tags"}, first.name: {}}
    (tmp_path / "meta.json").write_text(json.dumps(table))
    assert _told(read(tmp_path / "meta.json", replace(SUBSET, words="w"))) == [
        ("two.jpg", "a, t,, u\nb, t,, u"),
        ("one.png", "w"),
    ]
    (tmp_path / "meta.jsonl").write_text(json.dumps({"image_path": "one.png", "caption": "c"}))
    assert _told(read(tmp_path / "meta.jsonl", SUBSET)) == [("one.png", "c")]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("m.jsonl", "{", "line 1 is no JSON"),
        ("m.jsonl", '\n{"text": "x"}', "line 2 names no image: give it a file_name or image_path"),
        ("m.jsonl", '{"file_name": ""}', "line 1 names no image"),
        ("m.jsonl", '{"file_name": "a.png", "text": 5}', "line 1: the caption and the tags of an image are texts"),
        ("m.json", "[1]", "the file is no JSON object"),
        ("m.json", '{"a.png": 1}', "'a.png' is no JSON object"),
        ("m.json", "[" * 100_000, "the file is no JSON"),
        ("m.json", '{"a.png": {"tags": ["x"]}}', "'a.png': the caption and the tags"),
        ("m.json", "{}", "holds no images"),
        ("m.txt", "a.png", r"is no folder of images, file of metadata \(\.json, \.jsonl\) or shard"),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadFile, match=problem):
        read(tmp_path / name, SUBSET)


def test_masks_of_a_folder(tmp_path: Path) -> None:
    save(tmp_path / "a.png", caption="a")
    save(tmp_path / "b.png", caption="b")
    drawn = save(tmp_path / "masks" / "a.webp")
    ways = replace(SUBSET, masks=tmp_path / "masks")
    assert [(e.path.name, e.mask) for e in read(tmp_path, ways)] == [("a.png", drawn), ("b.png", None)]
    (tmp_path / "m.json").write_text('{"a": {"caption": "x"}}')
    assert [e.mask for e in read(tmp_path / "m.json", ways)] == [drawn]
    with pytest.raises(BadFile, match="gone: no such folder: give a folder of masks"):
        read(tmp_path, replace(SUBSET, masks=tmp_path / "gone"))


def test_masks_of_images_of_one_name_lie_in_their_folders(tmp_path: Path) -> None:
    for place in ("2_a", "2_b", "2_c"):
        save(tmp_path / place / "1.png")
    for place in ("2_a/1.png", "2_b/1.png", "1.png"):
        save(tmp_path / "masks" / place)
    found = read(tmp_path, replace(SUBSET, masks=tmp_path / "masks"))
    assert [(e.path.parent.name, str(e.mask and e.mask.relative_to(tmp_path / "masks"))) for e in found] == [
        ("2_a", "2_a/1.png"),
        ("2_b", "2_b/1.png"),
        ("2_c", "1.png"),
    ]
    (tmp_path / "masks" / "1.png").unlink()
    assert [e.mask is None for e in read(tmp_path, replace(SUBSET, masks=tmp_path / "masks"))] == [False, False, True]


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="gone: no such folder"):
        read(tmp_path / "gone", SUBSET)
    with pytest.raises(BadFile, match=r"holds no images \(\.avif, "):
        read(tmp_path, SUBSET)
    (tmp_path / "5_x").mkdir()
    with pytest.raises(BadFile, match="holds no images"):
        read(tmp_path, SUBSET)


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    save(tmp_path / "a.png", caption="fine")
    save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    (tmp_path / "c.txt").write_text("c")
    save(tmp_path / "d.png", caption=" \n")
    save(tmp_path / "e.png")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe")
    refused: list[BadFile] = []
    assert _told(read(tmp_path, SUBSET, Listener(refused.append))) == [("a.png", "fine")]
    assert [(Path(error.path).name, error.problem.split(":")[0]) for error in refused] == [
        ("b.png", "has no caption"),
        ("c.png", "broken image (not an image)"),
        ("d.txt", "is empty"),
        ("e.txt", "is no text in UTF-8 (byte 0)"),
    ]
    with pytest.raises(BadFile, match=r"b\.png: has no caption: write what it shows into b\.txt beside it, or give"):
        read(tmp_path, SUBSET)
    (tmp_path / "c.png").unlink()
    (tmp_path / "e.txt").unlink()
    with_words = read(tmp_path, replace(SUBSET, words="w"))
    assert _told(with_words) == [("a.png", "fine"), ("b.png", "w"), ("d.png", "w"), ("e.png", "w")]
