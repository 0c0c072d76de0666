"""`atelier upscale` and `atelier.upscale`: which upscaler, how large, what of the image stays, what is refused."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import atelier
from atelier.cli.app import run
from atelier.compose import upscalers
from atelier.errors import BadFile, BadInput, UnknownName
from atelier.runtime.library import Library
from atelier.runtime.source_images import open_image
from atelier.runtime.upscalers import UpscalerFile, UpscalerNames
from atelier.runtime.upscaling import Scale
from atelier.vision.enlarging import enlarge
from atelier.vision.upscalers.resampling import SPECS
from upscaler_support import Compact, Esrgan, saved

TEXT = "a cat\nNegative prompt: a dog\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 24x16"
NEAREST = next(spec for spec in SPECS if spec.name == "Nearest")


def noise(width: int = 24, height: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image, and models in ./models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATELIER_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    chunks = PngInfo()
    for key, value in {"parameters": TEXT, "workflow": '{"a": 1}', "Author": "me"}.items():
        chunks.add_text(key, value)
    noise().save("cat.png", pnginfo=chunks)
    saved(tmp_path / "models" / "RealESRGAN" / "RealESRGAN_x4plus.pth", Esrgan().tensors())
    saved(tmp_path / "models" / "upscalers" / "deep" / "4x-mine.pth", Compact().tensors())
    return tmp_path


def info(path: str) -> dict[str, object]:
    with Image.open(path) as image:
        return {str(key): value for key, value in image.info.items() if isinstance(value, str)}


# The command


def test_an_image_keeps_what_it_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upscale", "cat.png", "--scale", "1.5", "--upscaler", "r-esrgan 4x+", "--out", "large"]) == 0
    assert capsys.readouterr().out == "large/cat.png\n"
    done = "Postprocess upscale by: 1.5, Postprocess upscaler: R-ESRGAN 4x+"
    assert info("large/cat.png") == {
        "parameters": f"{TEXT}, {done}",
        "workflow": '{"a": 1}',
        "postprocessing": done,
        "extras": done,
    }
    with Image.open("large/cat.png") as image:
        assert (image.size, image.mode) == ((36, 24), "RGB")


def test_the_pixels_are_those_of_the_filter(here: Path) -> None:
    assert run(["upscale", "cat.png", "--upscaler", "nearest", "--out", "large.webp"]) == 0
    with Image.open("large.webp") as image:
        assert (np.asarray(image) == np.asarray(noise()).repeat(2, 0).repeat(2, 1)).all()
    assert atelier.upscale("large.webp", "Nearest", 0.5).tobytes() == noise().tobytes()


def test_other_formats_carry_the_text_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upscale", "cat.png", "--out", "large.jpg"]) == 0
    assert run(["upscale", "large.jpg", "--scale", "10x20", "--out", "small.png"]) == 0
    first = "Postprocess upscale by: 2, Postprocess upscaler: Lanczos"
    second = "Postprocess upscale to: 10x20, Postprocess crop to: 10x20, Postprocess upscaler: Lanczos"
    assert info("small.png") == {
        "parameters": f"{TEXT}, {first}, {second}",
        "postprocessing": second,
        "extras": second,
    }


def test_a_source_without_a_text_says_only_what_was_done(here: Path) -> None:
    noise().save("plain.png")
    assert run(["upscale", "plain.png", "--upscaler-2", "Nearest", "--visibility", "0.25", "--out", "o.png"]) == 0
    done = (
        "Postprocess upscale by: 2, Postprocess upscaler: Lanczos, Postprocess upscaler 2: Nearest, "
        "Postprocess upscaler 2 visibility: 0.25"
    )
    assert info("o.png") == {"postprocessing": done, "extras": done}


def test_the_infotext_of_another_program_is_written_in_a1111s_form(here: Path) -> None:
    chunks = PngInfo()
    chunks.add_text("Dream", '"a cat" -s 20 -S 7 -W 24 -H 16 -C 7.5 -A k_euler')
    noise().save("dream.png", pnginfo=chunks)
    assert run(["upscale", "dream.png", "--out", "o.png"]) == 0
    text = str(info("o.png")["parameters"])
    assert text.startswith("a cat\nSteps: 20, ")
    assert "Postprocess upscale by: 2, Postprocess upscaler: Lanczos" in text
    assert str(info("o.png")["Dream"]).startswith('"a cat" -s 20')


def test_in_a_folder_the_bad_ones_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    noise().save("in/b.png")
    Path("in/a.png").write_bytes(b"nothing")
    noise().save("in/c.JPG", format="JPEG")
    Path("in/notes.txt").write_text("x")
    assert run(["upscale", "in", "--out", "out"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["out/b.png", "out/c.png"]
    assert shown.err.splitlines() == [
        "atelier: in/a.png: is no image that can be read (PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF)",
        "atelier: 1 of 3 images failed",
    ]
    assert run(["upscale", "in/b.png", "in/c.JPG", "--out", "out"]) == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["b-2.png", "b.png", "c-2.png", "c.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to enlarge"),
        (["missing.png"], "missing.png: does not exist"),
        (["empty"], "empty: holds no images"),
        (["cat.png", "cat.png", "--out", "one.png"], "one.png: it is one file for 2 images"),
        (["cat.png", "--out", "cat.png"], "cat.png: it would be replaced by its own enlargement"),
        (["cat.png", "--scale", "big"], "scale big: write a factor such as 2, or a size"),
        (["cat.png", "--scale", "0"], "scale 0: it must be more than 0 and at most 16"),
        (["cat.png", "--scale", "nan"], "scale nan: it must be"),
        (["cat.png", "--scale", "17"], "scale 17: it must be"),
        (["cat.png", "--scale", "0x5"], "both sides need at least 1 pixel"),
        (["cat.png", "--scale", "99999x99999"], "is more than 268,435,456 pixels"),
        (["cat.png", "--visibility", "2", "--upscaler-2", "Nearest"], "visibility 2: it must be from 0 to 1"),
        (["cat.png", "--upscaler", "Lanzcos"], "unknown upscaler 'Lanzcos': did you mean Lanczos?"),
        (["cat.png", "--upscaler", "R-ESRGAN 2x+"], "its file RealESRGAN_x2plus.pth is not there"),
        (["cat.png", "--upscaler", "no/file.pth"], "no/file.pth: there is no such file"),
        (["cat.png", "--upscaler", "text.pth"], "text.pth: is text, not weights"),
        (["cat.png", "--upscaler", "4x-mine", "--tile", "50"], "tile 50: it needs more than 64 pixels"),
        (["clear.png", "--out", "o.jpg"], "clear.png: a JPEG cannot hold its transparency"),
        (["wide.png", "--out", "o.webp", "--scale", "16"], "a WebP has at most 16383 pixels a side, 16400 would"),
        (["cat.png", "--format", "gif"], "images are not written as '.gif'"),
        (["other.pth.png", "--upscaler", "other.pth"], "pip install 'atelier[upscale]' reads more kinds"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)  # as where it is not installed
    Path("empty").mkdir()
    Path("text.pth").write_text("hello, this is a text and no weights")
    Image.new("RGBA", (20, 20), (1, 2, 3, 4)).save("clear.png")
    Image.new("RGB", (1025, 1)).save("wide.png")
    noise().save("other.pth.png")
    saved(here / "other.pth", {"layers.0.weight": torch.zeros(2)})
    assert run(["upscale", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not Path("outputs").exists()


def test_the_list(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upscale", "--list"]) == 0
    assert capsys.readouterr().out.split("\n") == [
        "None", "Nearest", "Bicubic", "Lanczos", "4x-mine", "R-ESRGAN 4x+", "",
    ]  # fmt: skip


# Names and files


@pytest.mark.parametrize("name", ["R-ESRGAN 4x+", "r_esrgan 4X+", "RealESRGAN_x4plus", "realesrgan-x4plus"])
def test_a1111s_name_and_the_files_are_one(name: str, here: Path) -> None:
    assert upscalers().get(name).name == "R-ESRGAN 4x+"


def test_a_file_may_be_called_as_a1111_calls_another(tmp_path: Path) -> None:
    file = saved(tmp_path / "ESRGAN" / "R-ESRGAN 2x+.pth", Esrgan().tensors())
    found = UpscalerNames(Library((tmp_path,))).find("R-ESRGAN 2x+")
    assert found == UpscalerFile("R-ESRGAN 2x+", file)


def test_a_path_comes_before_a_name(here: Path) -> None:
    saved(here / "4x-other.pth", Esrgan().tensors())
    assert upscalers().get("4x-other.pth").name == "4x-other"
    with pytest.raises(UnknownName, match="did you mean 4x-mine"):
        upscalers().get("4x-my")


def test_files_lie_in_folders_of_upscalers_and_are_no_models(tmp_path: Path) -> None:
    for name in ("ESRGAN/a.pth", "upscale_models/b.safetensors", "sub/DAT/deep/c.pt", "d.pth", "ESRGAN/.e.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(Library((tmp_path,)).upscalers()) == ["a", "b", "c"]
    assert list(Library((tmp_path / "ESRGAN",)).upscalers()) == ["a"]
    assert len(Library((tmp_path,)).models()) == 1


def test_another_architecture_is_spandrels(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given tensors, never a file."""
    given: list[dict[str, torch.Tensor]] = []
    net = torch.nn.Upsample(scale_factor=2)
    found = SimpleNamespace(
        purpose="SR",
        input_channels=3,
        output_channels=3,
        scale=2,
        supports_half=False,
        supports_bfloat16=True,
        size_requirements=SimpleNamespace(multiple_of=4),
        architecture=SimpleNamespace(name="Other"),
    )

    class ModelLoader:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def load_from_state_dict(self, tensors: dict[str, torch.Tensor]) -> SimpleNamespace:
            given.append(tensors)
            return found

    def to(device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
        assert dtype == torch.float32
        return net

    found.to = to
    monkeypatch.setitem(sys.modules, "spandrel", SimpleNamespace(ModelLoader=ModelLoader))
    saved(here / "other.pth", {"module.layers.0.weight": torch.ones(2)})
    assert atelier.upscale(noise(), "other.pth", 2).size == (48, 32)
    assert [(name, t.tolist()) for name, t in given[0].items()] == [("layers.0.weight", [1, 1])]
    found.purpose = "FaceSR"
    with pytest.raises(BadFile, match="is a network for FaceSR by the name of Other"):
        atelier.upscale(noise(), "other.pth", 2)
    found.purpose, found.input_channels, found.output_channels = "SR", 1, 1
    with pytest.raises(BadFile, match="one of colour images"):
        atelier.upscale(noise(), "other.pth", 2)


# Sizes and transparency


def test_a_size_is_covered_and_cut_evenly() -> None:
    image = noise(20, 10)
    large = atelier.upscale(image, "Nearest", (20, 20))
    assert large.tobytes() == image.resize((40, 20), 0).crop((10, 0, 30, 20)).tobytes()
    assert Scale.of(" 1024x768 ") == Scale(to=(1024, 768))
    assert Scale(by=1.5).size((3, 5)) == (4, 8)
    with pytest.raises(BadInput):
        atelier.upscale(image, "Nearest", 100.0)


@pytest.mark.parametrize(("given", "shown"), [(3, "3"), (None, "None"), (b"x" * 99, f"b'{'x' * 55}...")])
def test_what_is_no_image_is_one_line(given: object, shown: str) -> None:
    with pytest.raises(BadInput) as caught:
        atelier.upscale(given)
    assert str(caught.value) == f"{shown} is no image: give a PIL image, or the path of a file"


def test_transparency_stays_and_what_is_hidden_does_not_show() -> None:
    """Red on the left; on the right transparent, with black that nobody meant."""
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((200, 100, 50, 255), (0, 0, 10, 20))
    large = np.asarray(enlarge(SPECS[3], image, (40, 40))).astype(int)
    assert large[:, :14, 3].min() == 255
    assert large[:, 26:, 3].max() == 0
    shown = large[large[..., 3] > 8]
    assert abs(shown[:, :3] - (200, 100, 50)).max() <= 3
    assert enlarge(NEAREST, image, (40, 40)).getchannel("A").tobytes() == (
        image.getchannel("A").resize((40, 40), 0).tobytes()
    )


# Reading


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where I live"
    noise().save(tmp_path / "a.png", exif=exif)
    found = open_image(tmp_path / "a.png")
    assert found.image.tobytes() == noise().transpose(Image.Transpose.ROTATE_270).tobytes()
    assert dict(found.texts) == {}


@pytest.mark.parametrize(
    ("mode", "expected"), [("L", "RGB"), ("1", "RGB"), ("P", "RGB"), ("LA", "RGBA"), ("CMYK", "RGB")]
)
def test_every_mode_becomes_colours(mode: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    noise().convert(mode).save(path)
    assert open_image(path).image.mode == expected


def test_grey_of_16_bits_keeps_its_range(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(open_image(tmp_path / "a.png").image)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_the_colour_profile_stays(here: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise().save("p.png", icc_profile=profile)
    for name in ("o.png", "o.jpg", "o.webp"):
        assert run(["upscale", "p.png", "--out", name]) == 0
        with Image.open(name) as image:
            assert image.info["icc_profile"] == profile


def bomb(width: int, height: int) -> bytes:
    """A PNG that says a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9000, 9000), (10_000, 10_000), (14_000, 14_000), (65_535, 65_535)])
def test_bombs_are_refused_by_their_header(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(*size))
    with pytest.raises(BadFile, match=r"80,000,000|more than"):
        open_image(path)


@pytest.mark.parametrize("cut", [10, 40, 200, 700])
def test_a_cut_image_is_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise().save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadFile):
        open_image(path)


def test_formats_that_run_programs_are_not_read(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.eps")
    with pytest.raises(BadFile, match="is no image that can be read"):
        open_image(tmp_path / "a.eps")
