"""A folder of images with captions as training data, and what is said about bad ones."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier.errors import BadFile
from atelier.train.data.dataset import Dataset, SceneDataset
from atelier.train.data.folder import FolderDataset
from atelier.train.data.scenes import render, scene
from atelier.train.recipe import Data
from atelier.train.sources import dataset


def _picture(path: Path, colour: tuple[int, ...], size: tuple[int, int] = (90, 60), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _picture(tmp_path / "b.png", (0, 0, 200))
    _picture(tmp_path / "a.jpg", (200, 0, 0))
    _picture(tmp_path / "more" / "c.webp", (0, 200, 0))
    (tmp_path / "a.txt").write_text("a red\nwall \n", encoding="utf-8")
    (tmp_path / "b.caption").write_text("a blue wall", encoding="utf-8-sig")
    (tmp_path / "more" / "c.txt").write_text("une façade verte", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not an image", encoding="utf-8")
    return tmp_path


def test_pictures_and_captions_in_order_of_names(folder: Path) -> None:
    opened = FolderDataset.open(folder, 32)
    assert opened.length == 3
    assert [opened.caption(i) for i in range(4)] == ["a red wall", "a blue wall", "une façade verte", "a red wall"]
    for index, colour in enumerate([(200, 0, 0), (0, 0, 200), (0, 200, 0)]):
        picture = opened.image(index + 3)
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
        assert np.abs(picture.astype(int) - colour).max() < 12


def test_the_middle_is_kept_and_transparency_is_white(folder: Path) -> None:
    wide = Image.new("RGBA", (120, 40), (0, 0, 0, 0))
    wide.paste((255, 0, 0, 255), (50, 0, 70, 40))
    wide.save(folder / "a0.png")
    (folder / "a0.txt").write_text("a stripe", encoding="utf-8")
    picture = FolderDataset.open(folder, 40).image(1)
    assert tuple(picture[20, 20]) == (255, 0, 0)
    assert tuple(picture[20, 2]) == (255, 255, 255)


def test_the_orientation_mark_is_obeyed(tmp_path: Path) -> None:
    lying = Image.new("RGB", (40, 40), (255, 255, 255))
    lying.paste((0, 0, 0), (0, 0, 40, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "p.png", exif=exif)
    (tmp_path / "p.txt").write_text("an edge", encoding="utf-8")
    picture = FolderDataset.open(tmp_path, 40).image(0)
    assert picture[:, 35:].mean() < 10
    assert picture[:5, :20].mean() > 245


@pytest.mark.parametrize("mode", ["L", "P", "LA", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (20, 20), (255, 255, 255)).convert(mode).save(tmp_path / "p.tif")
    (tmp_path / "p.txt").write_text("paper", encoding="utf-8")
    assert (FolderDataset.open(tmp_path, 16).image(0) > 250).all()


def test_scenes_behind_the_same_interface() -> None:
    opened: Dataset = dataset(Data(seed=2), "held_out")
    assert opened == SceneDataset(3, "held_out", 128)
    assert opened.length is None
    assert opened.caption(9) == scene(3, 9, "held_out").caption
    np.testing.assert_array_equal(opened.image(9), render(scene(3, 9, "held_out"), 128))


def _one_line(folder: Path, *parts: str) -> None:
    with pytest.raises(BadFile) as caught:
        FolderDataset.open(folder, 32).image(0)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_no_such_folder(tmp_path: Path) -> None:
    _one_line(tmp_path / "nowhere", "nowhere", "no such folder")


def test_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words alone", encoding="utf-8")
    _one_line(tmp_path, tmp_path.name, "no images", ".png")


def test_a_missing_caption(folder: Path) -> None:
    (folder / "b.caption").unlink()
    _one_line(folder, "b.png", "b.txt")


def test_clutter_is_no_image(folder: Path) -> None:
    (folder / "._a.jpg").write_bytes(b"a fork of a file system")
    for clutter in (".hidden", ".ipynb_checkpoints", "more/.thumbnails", "__MACOSX"):
        (folder / clutter).mkdir()
        (folder / clutter / "._x.png").write_bytes(b"")
    _picture(folder / ".ipynb_checkpoints" / "a-checkpoint.png", (9, 9, 9))
    assert [path.name for path in FolderDataset.open(folder, 8).paths] == ["a.jpg", "b.png", "c.webp"]


@pytest.mark.parametrize("name", ["d.TXT", "d.Txt", "d.CAPTION"])
def test_a_caption_whose_ending_is_in_capitals(name: str, folder: Path) -> None:
    _picture(folder / "d.PNG", (9, 9, 9))
    (folder / name).write_text("a wall", encoding="utf-8")
    opened = FolderDataset.open(folder, 8)
    assert opened.captions[opened.paths.index(folder / "d.PNG")] == "a wall"


def test_a_caption_behind_the_whole_name(folder: Path) -> None:
    _picture(folder / "d.png", (9, 9, 9))
    (folder / "d.png.txt").write_text("a wall", encoding="utf-8")
    opened = FolderDataset.open(folder, 8)
    assert opened.captions[opened.paths.index(folder / "d.png")] == "a wall"


def test_a_linked_folder_is_followed_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("disk")
    _picture(other / "d.png", (9, 9, 9))
    (other / "d.txt").write_text("a dark wall", encoding="utf-8")
    (folder / "first").symlink_to(other)
    (folder / "second").symlink_to(other)
    (folder / "again").symlink_to("more")
    opened = FolderDataset.open(folder, 8)
    assert [path.relative_to(folder).as_posix() for path in opened.paths] == [
        "a.jpg",
        "b.png",
        "first/d.png",
        "more/c.webp",
    ]


def test_a_loop_of_links_is_refused(folder: Path) -> None:
    (folder / "more" / "round").symlink_to(folder)
    _one_line(folder, "more/round", "take the link out")


def test_a_link_to_nothing_is_named(folder: Path) -> None:
    (folder / "gone.png").symlink_to("/nowhere/gone.png")
    _one_line(folder, "gone.png", "not there")


def test_a_pipe_is_no_image(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    _one_line(folder, "pipe.png", "is no file")


def test_an_empty_caption(folder: Path) -> None:
    (folder / "a.txt").write_text(" \n", encoding="utf-8")
    _one_line(folder, "a.txt", "empty")


def test_a_caption_in_another_encoding(folder: Path) -> None:
    for encoding in ("latin-1", "utf-16", "utf-16-le"):
        (folder / "a.txt").write_bytes("façade".encode(encoding))
        _one_line(folder, "a.txt", "save it as UTF-8")


def test_a_file_that_is_no_picture(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"plain words")
    _one_line(folder, "a.jpg", "not an image")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_truncated_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    Image.effect_noise((80, 80), 90).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    path.with_suffix(".txt").write_text("noise", encoding="utf-8")
    _one_line(tmp_path, path.name, "broken image")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_of_16_bits_keep_their_brightness(suffix: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"ramp.{suffix}")
    (tmp_path / "ramp.txt").write_text("a ramp")
    picture = FolderDataset.open(tmp_path, 32).image(0).astype(int)
    assert np.abs(picture[..., 0] - ramp / 257).max() <= 1


def test_numbers_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(tmp_path / "float.tif")
    (tmp_path / "float.txt").write_text("a float")
    with pytest.raises(BadFile, match=r"float\.tif: broken image .*mode F"):
        FolderDataset.open(tmp_path, 8).image(0)


def test_whatever_a_decoder_raises_names_the_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_: Image.Image) -> Image.Image:
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", damaged)
    with pytest.raises(BadFile, match=r"a\.jpg: broken image"):
        FolderDataset.open(folder, 8).image(0)
