"""Images in every format: what is written can be read again, and what cannot be written is one line."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from atelier.errors import BadInput, StorageFull
from atelier.request.infotext import read
from atelier.request.infotext.image import read_image
from atelier.runtime.engine import GeneratedImage
from atelier.runtime.store import FORMATS, Destination, encoded

PARAMETERS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64"
TEXTS = {
    "latin": f"a cat, café\nNegative prompt: dog\n{PARAMETERS}",
    "other scripts": f"猫と犬, кошка, قطة, 🐈‍⬛\nNegative prompt: 低品質\n{PARAMETERS}",
    "quotes and lines": f'a "cat",\n\n\\(really\\) \'so\'\tit is\nNegative prompt: "a,\nb"\n'
    f'{PARAMETERS}, Hires prompt: "a, b: c\\n\\"q\\" 猫"',
    "long": f"{'a long prompt, ' * 1000}\nNegative prompt: {'猫, ' * 5000}\n{PARAMETERS}",
    "only parameters": PARAMETERS,
}
CODECS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF"}
LARGEST = 32_737


def scene() -> Image.Image:
    """Saturated colours side by side, which a format that stores colours at half the resolution smears."""
    image = Image.new("RGB", (64, 48), (0, 0, 255))
    draw = ImageDraw.Draw(image)
    for x in range(0, 64, 2):
        draw.line((x, 0, x, 47), fill=(255, 0, 0))
    return image


def carried(data: bytes) -> str:
    """The text itself, as another program finds it."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG":
            return image.info["parameters"]
        comment: bytes = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    return comment[8:].decode("utf-16-be")


def save(output: Path | str, text: str = PARAMETERS, suffix: str = ".png") -> Path:
    return Destination.of(str(output), suffix).save(scene(), text, index=0, count=1, seed=7)


def test_every_suffix_is_tried_here() -> None:
    assert set(CODECS) == set(FORMATS)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, text: str) -> None:
    path = save(tmp_path / f"cat{suffix}", text)
    assert path == tmp_path / f"cat{suffix}"
    assert read_image(path.read_bytes()) == read(text)
    assert carried(path.read_bytes()) == text


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_suffix_chooses_the_format_whatever_its_case(tmp_path: Path, suffix: str) -> None:
    with Image.open(save(tmp_path / f"cat{suffix.upper()}")) as image:
        assert image.format == CODECS[suffix]
        assert image.size == (64, 48)


@pytest.mark.parametrize(("suffix", "difference"), [(".png", 0), (".webp", 0), (".jpg", 24), (".avif", 24)])
def test_pictures_stay_what_they_are(tmp_path: Path, suffix: str, difference: int) -> None:
    """With colours at half the resolution, red and blue lines would both be 128 off and more."""
    with Image.open(save(tmp_path / f"a{suffix}")) as image:
        seen, wanted = (np.asarray(i.convert("RGB"), dtype=np.int16) for i in (image, scene()))
    assert int(np.abs(seen - wanted).max()) <= difference


def test_a_folder_takes_png_unless_told_otherwise(tmp_path: Path) -> None:
    assert save(tmp_path).name == "00001-7.png"
    assert save(tmp_path, suffix=".webp").name == "00002-7.webp"
    assert save(tmp_path, suffix=".JPG").name == "00003-7.jpg"
    assert save(tmp_path).name == "00004-7.png"
    assert save(tmp_path / "b.avif", suffix=".webp").name == "b.avif", "a file name says it itself"


def test_several_pictures_share_a_file_name(tmp_path: Path) -> None:
    path = Destination.of(str(tmp_path / "cat.webp")).save(scene(), PARAMETERS, index=1, count=2, seed=1)
    assert path == tmp_path / "cat-2.webp"


@pytest.mark.parametrize("name", ["a.gif", "a.BMP", "a.tif", "a.tiff", "a.jxl"])
def test_other_formats_are_named_with_the_way_out(name: str) -> None:
    with pytest.raises(BadInput, match=r"a\.\w+: .*PNG, JPEG, WebP or AVIF.*a\.png") as caught:
        Destination.of(name)
    assert "\n" not in str(caught.value)


def test_a_suffix_for_a_folder_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'\.gif'.*\.avif"):
        Destination.of(str(tmp_path), ".gif")


@pytest.mark.parametrize("character", ["a", "猫", "🐈"], ids=["latin", "other", "beyond the first plane"])
def test_a_text_too_long_for_a_jpeg_is_one_line_and_leaves_nothing(tmp_path: Path, character: str) -> None:
    fits = LARGEST // (len(character.encode("utf-16-be")) // 2)
    assert carried(encoded(scene(), character * fits, ".jpg")) == character * fits
    with pytest.raises(BadInput, match=r"too long for a JPEG.*32737.*PNG, WebP or AVIF") as caught:
        save(tmp_path / "new" / "a.jpg", character * (fits + 1))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    text = f"{character * (fits + 1)}\nSteps: 1, Sampler: Euler, Seed: 1"
    for suffix in (".png", ".webp", ".avif"):
        assert read_image(save(tmp_path / f"a{suffix}", text).read_bytes()) == read(text)


def test_an_earlier_picture_survives_one_that_cannot_be_written(tmp_path: Path) -> None:
    kept = save(tmp_path / "a.jpg").read_bytes()
    with pytest.raises(BadInput):
        save(tmp_path / "a.jpg", "猫" * (LARGEST + 1))
    assert (tmp_path / "a.jpg").read_bytes() == kept
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


def test_a_picture_too_large_for_its_format_is_one_line() -> None:
    with pytest.raises(BadInput, match=r"WebP.*16383.*16384.*PNG"):
        encoded(Image.new("RGB", (16_384, 1)), PARAMETERS, ".webp")


def test_a_jpeg_refuses_transparency() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    with pytest.raises(BadInput, match=r"JPEG.*RGBA.*PNG"):
        encoded(clear, PARAMETERS, ".jpg")
    for suffix in (".png", ".webp", ".avif"):
        assert encoded(clear, PARAMETERS, suffix)


def test_a_pillow_without_avif_is_one_line_before_anything_is_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.SAVE, "AVIF")
    with pytest.raises(BadInput, match=r"Pillow cannot write AVIF: use \.png") as caught:
        Destination.of("cat.avif")
    assert "\n" not in str(caught.value)
    assert Destination.of("cat.webp").suffix == ".webp"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_leaves_nothing_in_any_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull, match="full"):
        save(tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_of_the_python_interface_saves_itself(tmp_path: Path, suffix: str) -> None:
    path = GeneratedImage(scene(), 7, TEXTS["other scripts"]).save(tmp_path / f"a{suffix}")
    assert read_image(path.read_bytes()) == read(TEXTS["other scripts"])
