"""Carriers: text chunks, EXIF, comments, lowest bits, and `atelier info` on them."""

from __future__ import annotations

import gzip
import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from atelier.cli.info import info
from atelier.errors import BadFile, BadInput
from atelier.request.infotext import Infotext, read
from atelier.request.infotext.image import decode_comment, read_image, save_options, user_comment

TEXT = "a cat, 猫 and 🐈\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64"
WANT = read(TEXT)


def saved(image_format: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (16, 16), 120 if mode == "L" else (120, 60, 30, 255)[: len(mode)]).save(
        buffer, format=image_format, **options
    )
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "AVIF", "GIF"])
def test_a_picture_of_every_format_carries_it(image_format: str) -> None:
    if image_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    mode = "L" if image_format == "GIF" else "RGB"
    assert read_image(saved(image_format, mode, **save_options(image_format, TEXT))) == WANT


def test_other_formats_carry_nothing() -> None:
    with pytest.raises(BadInput, match="BMP cannot carry an infotext"):
        save_options("BMP", TEXT)


def test_latin_text_goes_into_a_plain_chunk_and_the_rest_into_an_international_one() -> None:
    assert b"tEXtparameters\0caf\xe9" in saved("PNG", **save_options("PNG", "café"))
    assert b"iTXtparameters\0" in saved("PNG", **save_options("PNG", "猫"))


def test_the_exif_block_is_what_piexif_writes() -> None:
    block = user_comment("hi")
    assert block.startswith(b"Exif\0\0MM\0*\0\0\0\x08")
    assert block.endswith(b"UNICODE\0\0h\0i")
    exif = Image.Exif()
    exif.load(block)
    assert exif.get_ifd(0x8769)[0x9286] == b"UNICODE\0\0h\0i"


@pytest.mark.parametrize(
    "raw",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"ASCII\0\0\0" + TEXT.encode(),
        b"\0" * 8 + TEXT.encode(),
        TEXT.encode(),
        b"UNICODE\0" + TEXT.encode(),
    ],
    ids=["big endian", "little endian", "with a mark", "ascii", "undefined", "bare", "called unicode"],
)
def test_user_comments_of_all_codes(raw: bytes) -> None:
    assert decode_comment(raw) == TEXT


def test_a_user_comment_comes_before_parameters() -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", "old\nSteps: 1, Sampler: Euler, Seed: 1")
    assert read_image(saved("PNG", pnginfo=chunks, exif=user_comment(TEXT))) == WANT
    assert read_image(saved("PNG", **save_options("PNG", TEXT), exif=user_comment("made with a camera"))) == WANT


def hidden(text: str, mode: str, signature: str, packed: bool) -> bytes:
    """An image with the text in its lowest bits, written from the description of the format."""
    data = text.encode()
    data = gzip.compress(data) if packed else data
    stream = signature.encode() + struct.pack(">I", 8 * len(data)) + data
    bits = [byte >> (7 - i) & 1 for byte in stream for i in range(8)]
    image = Image.new(mode, (64, 48), (200, 100, 50, 255)[: len(mode)])
    channels = [3] if "rgb" not in signature else [0, 1, 2]
    places = ((x, y, c) for x in range(64) for y in range(48) for c in channels)
    pixels = image.load()
    assert pixels is not None
    for bit, (x, y, channel) in zip(bits, places, strict=False):
        values: list[int] = list(pixels[x, y])
        values[channel] = values[channel] & ~1 | bit
        pixels[x, y] = tuple(values)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "signature", "packed"),
    [
        ("RGBA", "stealth_pnginfo", False),
        ("RGBA", "stealth_pngcomp", True),
        ("RGBA", "stealth_rgbinfo", False),
        ("RGB", "stealth_rgbinfo", False),
        ("RGB", "stealth_rgbcomp", True),
    ],
)
def test_infotexts_in_the_lowest_bits(mode: str, signature: str, packed: bool) -> None:
    assert read_image(hidden(TEXT, mode, signature, packed)) == WANT


def test_a_broken_stealth_text_is_none() -> None:
    assert read_image(hidden(TEXT, "RGBA", "stealth_pngcomp", packed=False)) is None
    assert read_image(hidden(TEXT, "RGBA", "stealth_unknown", packed=False)) is None
    too_long = hidden("x" * 500, "RGBA", "stealth_pnginfo", packed=False)
    with Image.open(io.BytesIO(too_long)) as image:
        narrow = image.crop((0, 0, 20, 48))
    buffer = io.BytesIO()
    narrow.save(buffer, format="PNG")
    assert read_image(buffer.getvalue()) is None


def chunk(**texts: str) -> bytes:
    chunks = PngInfo()
    for key, text in texts.items():
        chunks.add_text(key.replace("_", "-") if key == "sd_metadata" else key, text)
    return saved("PNG", pnginfo=chunks)


def test_chunks_of_other_programs() -> None:
    novel = {"steps": 28, "sampler": "k_euler_ancestral", "seed": 3, "scale": 5.0, "uc": "bad", "prompt": "a cat"}
    found = read_image(chunk(Software="NovelAI", Source="NovelAI Diffusion V3", Comment=json.dumps(novel)))
    assert found is not None
    assert (found.dialect, found.prompt, found.negative_prompt) == ("novelai", "a cat", "bad")
    assert found.get("Sampler") == "Euler a"
    metadata = {"generation_mode": "txt2img", "positive_prompt": "p", "scheduler": "dpmpp_2m_k", "seed": 1, "steps": 9}
    found = read_image(chunk(invokeai_metadata=json.dumps(metadata)))
    assert found is not None
    assert (found.get("Sampler"), found.get("Schedule type")) == ("DPM++ 2M", "Karras")
    found = read_image(chunk(Dream='"a cat [dog]" -s50 -S 7 -W512 -H 768 -C7.5 -A k_euler_a'))
    assert found is not None
    assert (found.prompt, found.negative_prompt, found.get("Size")) == ("a cat", "dog", "512x768")
    assert (found.get("Steps"), found.get("Sampler")) == ("50", "Euler a")
    found = read_image(chunk(Dream="a cat's life -s 30 -S7 -Ak_lms -C 7.5"))
    assert found is None
    found = read_image(chunk(Dream="a cat -s 30 -S7 -Ak_lms -cf 0.75"))
    assert found is not None
    assert (found.prompt, dict(found.pairs)) == ("a cat", {"Steps": "30", "Seed": "7", "Sampler": "LMS"})


def test_xmp_of_draw_things() -> None:
    comment = {"c": "a cat", "uc": "dog", "sampler": "Euler A", "seed": 3, "steps": 8, "scale": 4, "size": "64x128"}
    inner = json.dumps(comment).replace('"', "&quot;")
    xmp = (
        '<x:xmpmeta><rdf:RDF><rdf:Description><exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">'
        f"{inner}</rdf:li></rdf:Alt></exif:UserComment></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    found = read_image(chunk(**{"XML:com.adobe.xmp": xmp}))
    assert found is not None
    assert (found.dialect, found.prompt, found.get("Size")) == ("draw-things", "a cat", "64x128")


def test_a_picture_without_a_text_carries_none() -> None:
    assert read_image(saved("PNG")) is None
    assert read_image(saved("PNG", mode="RGBA")) is None
    assert read_image(saved("JPEG")) is None
    assert read_image(chunk(Comment="made by hand", Software="NovelAI")) is None


@pytest.mark.parametrize("data", [b"", b"hello", saved("PNG")[:40], b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_bytes_that_are_no_picture_are_bad_input(data: bytes) -> None:
    with pytest.raises(BadInput, match="is no image that can be read"):
        read_image(data)


def run(path: Path, *options: str) -> str:
    import typer

    app = typer.Typer()
    app.command()(info)
    result = CliRunner().invoke(app, [str(path), *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_info_as_json(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(saved("JPEG", **save_options("JPEG", TEXT)))
    got = json.loads(run(tmp_path / "a.jpg", "--json"))
    assert (got["dialect"], got["prompt"], got["negative_prompt"]) == ("a1111", WANT.prompt, "dog")
    assert got["parameters"] == {
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "7",
        "Seed": "5",
        "Size": "64x64",
    }
    assert got["settings"]["size"] == [64, 64]
    assert got["request"]["steps"] == 20
    assert got["request"]["noise"]["rng"] == "nv"
    assert got["warnings"] == []


def test_info_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved("PNG", **save_options("PNG", TEXT + ", Clip skip: 99")))
    out = run(tmp_path / "a.png")
    assert out.startswith("a cat, 猫 and 🐈\nNegative prompt: dog\n")
    assert "Sampler    Euler a\n" in out
    assert "(written by)  a1111" in out
    assert "note: Clip skip '99' is out of range: it is from 1 to 12" in out
    assert json.loads(run(tmp_path / "a.png", "--json"))["request"] is None


def test_info_of_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "params.txt").write_text(TEXT, encoding="utf-8")
    assert json.loads(run(tmp_path / "params.txt", "--json"))["settings"]["seed"] == 5


def test_info_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    (tmp_path / "b.png").write_bytes(b"no")
    for name, message in (("a.png", "carries no infotext"), ("b.png", "is no image"), ("c.png", "cannot be read")):
        with pytest.raises(BadFile, match=message) as caught:
            run(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_record_without_a_key_has_none() -> None:
    assert Infotext().get("Steps") is None
