"""`atelier data inspect`, `crop` and `caption`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier.cli.app import run
from atelier.errors import BadFile
from atelier.train.data import scenes
from atelier.train.data.buckets import Buckets
from atelier.train.data.captioning import Composing, composed, to_caption, write
from atelier.train.data.duplicates import alike, look
from atelier.train.data.examples import read
from atelier.train.data.excerpts import Excerpt
from atelier.train.data.inspecting import excerpt_sheet, inspected, seen
from atelier.train.data.subsets import Subset
from atelier.vision.interrogate import Ranked
from atelier.vision.lettering import MARGIN
from teaching_support import encoded, pack, save

SUBSET = Subset(Buckets.of(64, 16))
NAMES = [concept.name for concept in scenes.concepts()]


def _scene(number: int, background: str = "white", size: int = 96) -> Image.Image:
    return Image.fromarray(scenes.render(scenes.large(NAMES[number * 11], background), size))


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def _as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scenes of different proportions, one of them twice, one broken, one cut off, one without words."""
    own = tmp_path / "in" / "2_zwx thing"
    own.mkdir(parents=True)
    _scene(0).save(own / "a.png")
    _scene(1).resize((144, 96)).save(own / "b.png")
    _scene(2).resize((40, 40)).save(own / "c.png")
    _as_jpeg(_scene(0).resize((120, 120))).save(own / "copy.jpg")
    (own / "a.txt").write_text("a zwx thing")
    (own / "broken.png").write_bytes(b"x")
    whole = encoded((64, 64))
    (own / "cut.png").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "in" / "other" / "d.png")
    return tmp_path / "in"


def test_images_that_look_alike() -> None:
    first, second, third = _scene(3), _scene(4), _scene(5)
    shown = [
        first, second, _as_jpeg(first), third, second.resize((60, 60)), first.resize((300, 300)),
        _scene(3, "black"), Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue"),
    ]  # fmt: skip
    assert alike([look(_array(image)) for image in shown]) == [[0, 2, 5], [1, 4]]
    assert alike([look(_array(first))]) == []


def test_groups_are_joined_by_what_lies_between() -> None:
    ends = look(_array(_scene(3)))
    bits = np.unpackbits(np.frombuffer(ends.bits, np.uint8))

    def turned(*numbers: int) -> bytes:
        changed = bits.copy()
        changed[list(numbers)] ^= 1
        return np.packbits(changed).tobytes()

    near, far = type(ends)(turned(*range(12)), ends.mean), type(ends)(turned(*range(13)), ends.mean)
    farther = type(ends)(turned(*range(24)), ends.mean)
    assert alike([ends, near]) == [[0, 1]]
    assert alike([ends, far]) == []
    assert alike([farther, ends, near]) == [[0, 1, 2]]
    bright = type(ends)(ends.bits, (ends.mean[0] + 13, *ends.mean[1:]))
    assert alike([ends, bright]) == []


def test_the_report(folder: Path) -> None:
    report = inspected(folder, SUBSET, batch=2, seed=0).report
    own = folder / "2_zwx thing"
    assert (report.images, report.classes, report.epoch) == (4, 0, 4)
    assert report.buckets == (((64, 64), 6), ((80, 48), 2))
    assert report.uncaptioned == (own / "b.png", own / "c.png", own / "copy.jpg")
    assert [(e.path, e.size, e.factor) for e in report.enlarged] == [(own / "c.png", (40, 40), 1.6)]
    assert report.alike == ((own / "a.png", own / "copy.jpg"),)
    assert [(Path(path).name, problem.split(" (")[0]) for path, problem in report.refused] == [
        ("broken.png", "broken image"),
        ("cut.png", "broken image"),
    ]
    assert len(report.notes) == 1
    assert report.notes[0].startswith(str(folder / "other"))


def test_nothing_that_can_be_used(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(BadFile, match=r": none of its 1 images can be used; the first: .*a\.png: has no caption"):
        inspected(tmp_path, SUBSET, 1, 0)
    whole = encoded((64, 64))
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BadFile, match=r"none of its 1 images can be used; the first: .*a\.png: broken image"):
        inspected(tmp_path, SUBSET, 1, 0)
    save(tmp_path / "b.png", (9, 9000), caption="x")
    save(tmp_path / "c.png", caption="x")
    refused = inspected(tmp_path, SUBSET, 1, 0).report.refused
    assert [Path(path).name for path, _ in refused] == ["a.png", "b.png"]
    assert refused[1][1].startswith("9x9000 pixels are too narrow")
    with pytest.raises(BadFile, match="gone: no such folder"):
        inspected(tmp_path / "gone", SUBSET, 1, 0)


def test_what_is_seen_is_what_the_first_epoch_shows(folder: Path) -> None:
    data = inspected(folder, SUBSET, 1, 3, folder / "other", "a thing").data
    shown = seen(data, 10)
    assert sorted(e.path.name for e in shown) == ["a.png", "b.png", "c.png", "copy.jpg", "d.png"]
    every = [excerpt for step in range(data.epoch) for excerpt in data.excerpts(step)]
    assert all(excerpt in every for excerpt in shown)
    assert shown[:2] == list(data.excerpts(0))
    assert seen(data, 2) == shown[:2]


def test_the_sheet_shows_excerpts_at_one_scale(tmp_path: Path) -> None:
    red, blue = save(tmp_path / "red.png", (300, 200)), save(tmp_path / "blue.png", (600, 600), "blue")
    black = save(tmp_path / "mask.png", (600, 600), "black")
    excerpts = [
        Excerpt(red, (300, 200), (300, 200), 0, 0, flipped=True, original=(300, 200), caption="wide"),
        Excerpt(blue, (512, 512), (600, 600), 0, 0, flipped=False, original=(600, 600), caption="x", mask=black),
    ]
    page = np.asarray(excerpt_sheet(excerpts, 2))
    tile = page[MARGIN : MARGIN + 256, MARGIN : MARGIN + 256]
    assert (tile[:100, :150] == (255, 0, 0)).all()
    assert (tile[100:, 150:] == (250, 250, 250)).all()
    left = MARGIN + 256 + MARGIN
    assert (page[MARGIN : MARGIN + 256, left : left + 256] == (0, 0, 76)).all()
    assert (page[MARGIN + 256 :] < 100).any()


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, words = tmp_path / "sheet.png", ["--size", "64", "--step", "16"]
    assert run(["data", "inspect", str(folder), *words, "--output", str(sheet)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "4 images; all are shown in 8 steps"
    assert told[1:4] == ["bucket 64x64: 6", "bucket 80x48: 2", "without a caption of their own: 3"]
    assert "enlarged: 1" in told
    assert f"  {folder / '2_zwx thing' / 'c.png'}: 40x40, 1.6 times" in told
    assert told[-1] == str(sheet)
    assert sheet.is_file()
    own = ["--class-dir", str(folder / "other"), "--class-words", "w", "--batch", "2", "--json", "--square"]
    assert run(["data", "inspect", str(folder), *words, *own, "--output", str(sheet)]) == 0
    table: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (table["images"], table["classes"], table["epoch"], table["sheet"]) == (4, 1, 4, str(sheet))
    assert table["buckets"] == [[[64, 64], 8]]
    assert run(["data", "inspect", str(folder), *words, "--no-upscale", "--json", "--output", str(sheet)]) == 0
    assert json.loads(capsys.readouterr().out)["enlarged"] == []
    assert run(["data", "inspect", str(folder), "--output", "sheet.jpg"]) == 2
    assert "written as PNG" in capsys.readouterr().err


def test_options_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, sheet = tmp_path / "d", tmp_path / "s.png"
    source.mkdir()
    _scene(6).resize((150, 60)).save(source / "a.png")
    save(tmp_path / "m" / "a.png", (60, 90))
    plain = ["data", "inspect", str(source), "--size", "64", "--step", "16", "--output", str(sheet)]

    def page(*options: str) -> bytes:
        assert run([*plain, *options]) == 0
        return sheet.read_bytes()

    assert len({page("--words", "w"), page("--words", "v"), page("--words", "w", "--alpha-mask")}) == 3
    drawn = {page("--words", "w", "--random-crop", "--seed", str(seed)) for seed in range(4)}
    assert len({page("--words", "w"), *drawn}) > 2
    assert len({page("--words", "w", "--flip", "--seed", str(seed)) for seed in range(8)}) == 2
    capsys.readouterr()
    assert run([*plain, "--masks", str(tmp_path / "m"), "--words", "w"]) == 2
    assert "is 60x90 and its image 150x60" in capsys.readouterr().err


def test_long_lists_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        save(tmp_path / "d" / f"{number:02}.png", (20, 20), caption="x" if number else None)
    plain = ["data", "inspect", str(tmp_path / "d"), "--size", "64", "--step", "16", "--words", "w", "--count", "2"]
    assert run([*plain, "--output", str(tmp_path / "s.png")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[told.index("enlarged: 12") + 11] == "  and 2 more (--json lists all)"
    assert told.count("  and 2 more (--json lists all)") == 1
    with Image.open(tmp_path / "s.png") as page:
        assert page.width == 2 * (128 + MARGIN) + MARGIN


def test_parts_are_saved_beside_their_captions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = folder / "2_zwx thing"
    for name in ("broken.png", "cut.png"):
        (own / name).unlink()
    save(own / "a.webp", (128, 64))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    assert run(["data", "crop", str(folder), str(out), "--size", "64", "--step", "16"]) == 0
    names = ["a.png.png", "a.png.txt", "a.webp.png", "a.webp.txt", "b.png", "c.png", "copy.png"]
    assert sorted(path.relative_to(out / "2_zwx thing").as_posix() for path in out.rglob("*.*")) == names
    assert capsys.readouterr().out.splitlines()[0] == str(out / "2_zwx thing" / "a.png.png")
    again = read(out, SUBSET)
    assert [(e.path.name, e.caption, e.subset.repeats) for e in again[:3]] == [
        ("a.png.png", "a zwx thing", 2),
        ("a.webp.png", "a zwx thing", 2),
        ("b.png", "zwx thing", 2),
    ]
    with Image.open(own / "b.png") as whole, Image.open(out / "2_zwx thing" / "b.png") as part:
        expected = whole.resize((80, 53), Image.Resampling.LANCZOS).crop((0, 2, 80, 50))
        assert np.array_equal(_array(part), _array(expected))
    for left in ("copy.png", "a.png.txt"):
        for other in (path for path in out.rglob("*.*") if path.name != left):
            other.unlink()
        kept = (out / "2_zwx thing" / left).read_bytes()
        assert run(["data", "crop", str(folder), str(out), "--size", "32", "--square"]) == 2
        assert f"{left}: is there already, and nothing is replaced" in capsys.readouterr().err
        assert [path.read_bytes() for path in out.rglob("*.*")] == [kept]
        (out / "2_zwx thing" / left).unlink()
        if left == "copy.png":
            assert run(["data", "crop", str(folder), str(out), "--size", "64", "--step", "16"]) == 0
    capsys.readouterr()
    assert run(["data", "crop", str(folder), str(folder / "out")]) == 2
    assert "give a folder of its own" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_squares_and_parts_of_a_shard(tmp_path: Path) -> None:
    shard = pack(tmp_path / "0.tar", {"x/1.png": encoded((90, 40)), "x/1.txt": b"words"})
    assert run(["data", "crop", str(shard), str(tmp_path / "one"), "--size", "32", "--square"]) == 0
    (tmp_path / "in").mkdir()
    shard.rename(tmp_path / "in" / "0.tar")
    assert run(["data", "crop", str(tmp_path / "in"), str(tmp_path / "two"), "--size", "32", "--square"]) == 0
    for out in (tmp_path / "one", tmp_path / "two"):
        with Image.open(out / "0" / "x" / "1.png") as part:
            assert part.size == (32, 32)
        assert (out / "0" / "x" / "1.txt").read_text() == "words\n"


def test_which_images_get_captions(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a.png", caption="x"), save(tmp_path / "more" / "b.jpg")
    third = save(tmp_path / "c.png")
    (tmp_path / "c.caption").write_text("y")
    assert to_caption(tmp_path, overwrite=False) == [(second, second.with_suffix(".txt"))]
    assert to_caption(tmp_path, overwrite=True) == [
        (first, first.with_suffix(".txt")),
        (third, third.with_suffix(".caption")),
        (second, second.with_suffix(".txt")),
    ]
    with pytest.raises(BadFile, match="gone: no such folder"):
        to_caption(tmp_path / "gone", overwrite=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFile, match="holds no images"):
        to_caption(tmp_path / "empty", overwrite=False)


def test_captions_are_composed_of_words(tmp_path: Path) -> None:
    ranked = {
        "things": [Ranked("a dog", 0.6), Ranked("a cat", 0.3), Ranked("a cow", 0.1)],
        "places": [Ranked("outside", 0.2), Ranked("inside", 0.1)],
    }
    assert composed(ranked, Composing()) == "a dog, outside"
    assert composed(ranked, Composing(2, 0.2, " and ", "zwx, ")) == "zwx, a dog and a cat and outside"
    assert composed(ranked, Composing(least=0.7)) == ""
    text = tmp_path / "a.txt"
    assert write("one", text, overwrite=False)
    assert not write("two", text, overwrite=False)
    assert text.read_text() == "one\n"
    assert write("three", text, overwrite=True)
    assert text.read_text() == "three\n"


def test_captions_of_the_embedded_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(scenes.render(scenes.large("banana", "blue"), 128)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    save(tmp_path / "c.png", caption="kept")
    assert run(["data", "caption", str(tmp_path), "--before", "zwx, "]) == 0
    told = capsys.readouterr()
    said = (tmp_path / "a.txt").read_text().strip()
    assert told.out.splitlines() == [f"{tmp_path / 'a.txt'}: {said}"]
    assert "b.png: broken image" in told.err
    assert said.startswith("zwx, a banana on a")
    assert (tmp_path / "c.txt").read_text() == "kept"
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "list.txt").write_text("a banana\nbanana\na red apple\n")
    lists = ["--words", str(tmp_path / "w"), "--overwrite", "--top", "2"]
    (tmp_path / "c.png").unlink()
    assert run(["data", "caption", str(tmp_path), *lists]) == 0
    assert sorted((tmp_path / "a.txt").read_text().strip().split(", ")) == ["a banana", "banana"]
    assert run(["data", "caption", str(tmp_path), *lists, "--least", "1", "--between", "-"]) == 0
    assert "a.png: no word has a share of 1" in capsys.readouterr().err
    assert run(["data", "caption", str(tmp_path / "w")]) == 2
