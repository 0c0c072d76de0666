"""Images of strangers: what they cost, what is seen of them, and what of them comes out again."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import psutil
import pytest
from PIL import Image, PngImagePlugin
from test_workers_kinds import bench, name, png

from atelier.errors import BadFile, BadInput
from atelier.request.infotext.image import TEXT_KEY
from atelier.runtime.engine import Engine
from atelier.runtime.index import Index
from atelier.runtime.jobs.job import TooLarge
from atelier.runtime.library import Library
from atelier.runtime.source_images import CARRIED
from atelier.runtime.workers.handed import HandedImages, checked
from atelier.runtime.workers.kind import Bench, Most, Task, kinds
from atelier.runtime.workers.messages import Channel, Message, encoded
from atelier.runtime.workers.resolver import Resolver
from atelier.weights.hashes import HashCache
from effort import little_work
from pipeline_support import CPU

MOST = Most()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks: bytes) -> bytes:
    """A PNG with chunks behind its header."""
    data = png()
    return data[:33] + b"".join(chunks) + data[33:]


@pytest.mark.parametrize("side", [6000, 60_000])
def test_a_bomb_of_pixels_is_refused_with_the_limit(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = png()[:8] + chunk(b"IHDR", header) + png()[33:]
    with pytest.raises(TooLarge, match="at most 25,000,000 and 8,192 a side are read"):
        checked(data, "image", MOST)


@pytest.mark.parametrize(
    "made",
    [
        lambda: with_chunks(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 * 2**20), 9))),
        lambda: with_chunks(chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(200 * 2**20), 9))),
        lambda: with_chunks(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200 * 2**20), 9))),
        lambda: with_chunks(*[chunk(b"tEXt", b"a\0b")] * 1_000_000),
        lambda: with_chunks(chunk(b"tEXt", b"a\0b")[:-1] + b"x"),
        lambda: png()[:33] + chunk(b"IEND", b""),
        lambda: with_chunks(png()[8:33]),
    ],
    ids=["zTXt", "iTXt", "iCCP", "a million", "bad CRC", "no pixels", "two headers"],
)
def test_abused_chunks_cost_little(made: Callable[[], bytes]) -> None:
    """I03."""
    data, own = made(), psutil.Process()
    before = own.memory_info().rss
    with suppress(BadFile), little_work():
        assert checked(data, "image", MOST).image.size == (64, 48)
    assert own.memory_info().rss - before < 100 * 2**20


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_cut_anywhere_is_whole_or_refused(kind: str) -> None:
    """I05."""
    data = png((60, 40), kind=kind)
    whole = checked(data, "image", MOST).image.tobytes()
    refused = 0
    for percent in range(100):
        try:
            assert checked(data[: len(data) * percent // 100], "image", MOST).image.tobytes() == whole
        except BadFile:
            refused += 1
    assert refused >= 80


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_is_read_upright_in_colours(mode: str) -> None:
    """I04."""
    buffer = io.BytesIO()
    kind = "JPEG" if mode == "CMYK" else "PNG"
    base = Image.linear_gradient("L").resize((8, 6))
    image = Image.frombytes("I;16", (8, 6), bytes(96)) if mode == "I;16" else base.convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, kind, exif=exif)
    seen = checked(buffer.getvalue(), "image", MOST).image
    assert (seen.mode, seen.size) == ("RGBA" if "A" in mode else "RGB", (6, 8))


def read(data: bytes) -> dict[str, Any]:
    """What the resolver says of an image."""
    resolver = Resolver(None, None, None, MOST, HashCache(), Index())  # type: ignore[arg-type] - it is asked for nothing else
    return resolver._read(Message("read", {}, (data,)))[0]


@pytest.mark.parametrize("text", ["a " * 2**19, "k: v," * 200_000, "a\nSteps: 1, " + "k: v, " * 170_000], ids=len)
def test_a_megabyte_of_text_is_read_at_once(text: str) -> None:
    """I08."""
    with little_work():
        said = read(png(text=text))
    assert said["infotext"] == text[:1_000_000]


@pytest.mark.parametrize(
    ("text", "kept"),
    [("\xff" * 1_000_000, 4 * 2**20 // 12), ("\N{GRINNING FACE}" * 200_000, 200_000)],
    ids=["latin", "emoji"],
)
def test_what_an_image_says_fits_into_a_message(text: str, kept: int) -> None:
    """I08: all texts that are told, of letters that JSON writes with six bytes or twelve."""
    chunks = PngImagePlugin.PngInfo()
    for key in CARRIED:
        chunks.add_text(key, text, zip=True) if text.isalpha() else chunks.add_itxt(key, text, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=chunks)
    assert len(buffer.getvalue()) < 50_000
    said = read(buffer.getvalue())
    encoded(Message("answer", said))
    assert said["infotext"] == text[:kept]
    assert list(said["items"]) == [*CARRIED]


class Way:
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        encoded(message)
        self.sent.append(message)


def test_an_answer_that_no_message_holds_is_refused_and_the_next_one_is_given(tmp_path: Path) -> None:
    images = HandedImages(MOST)
    engine = Engine(CPU, Library((tmp_path,), by_path=False), HashCache(), version="1", budget=0, images=images)
    way = Way()
    resolver = Resolver(cast("Channel", way), engine, images, MOST, HashCache(), Index())
    resolver._calls = {"explain": lambda _: ({"text": "a" * 2**24}, ())}
    resolver._answer(Message("explain", {"number": 7}))
    assert [message.kind for message in way.sent] == ["refused"]
    assert way.sent[0].data["number"] == 7
    assert "more than 16,777,216 bytes" in str(way.sent[0].object("error")["message"])


def test_what_an_image_says_is_the_request_that_makes_it_again() -> None:
    text = "a cat\nNegative prompt: blurry\nSteps: 12, Sampler: Euler a, CFG scale: 5, Seed: 9, Size: 64x96"
    said = read(png(text=text))
    assert (said["width"], said["height"], said["format"], said["infotext"]) == (64, 48, "png", text)
    expected = {"prompt": "a cat", "negative_prompt": "blurry", "steps": 12, "seed": 9, "width": 64, "height": 96}
    assert said["fields"].items() >= expected.items()
    assert read(png())["fields"] == {}


def test_a_format_that_does_not_hold_the_infotext_is_refused() -> None:
    """64 KiB of EXIF are what a JPEG has room for."""
    resolver = Resolver(None, None, None, MOST, HashCache(), Index())  # type: ignore[arg-type] - it is asked for nothing else
    asked: dict[str, Any] = {"quality": 90, "infotext": "a" * 32_738}
    with pytest.raises(BadInput, match=r"too long for a JPEG .*: save as PNG, WebP"):
        resolver._rendition(Message("rendition", {**asked, "format": "jpeg"}, (png(),)))
    for kind, text in (("jpeg", "a" * 32_737), ("webp", "a" * 32_738)):
        _, (data,) = resolver._rendition(Message("rendition", {**asked, "infotext": text, "format": kind}, (png(),)))
        assert read(data)["infotext"] == text


def test_nothing_but_pixels_and_infotexts_comes_out() -> None:
    """I09, I11."""
    exif = Image.Exif()
    exif[0x013B] = "the author"
    exif.get_ifd(0x8825)[1] = "N"
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(TEXT_KEY, "a cat")
    chunks.add_text("Author", "the author")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", exif=exif, pnginfo=chunks)
    data = buffer.getvalue() + b"PK\x03\x04<script>"
    engine = Engine(CPU, Library((), by_path=False), HashCache(), version="1")
    own: Bench = bench(engine, data)
    settled = kinds()["upscale"].settle({"image": name(data)}, own)
    told = list(kinds()["upscale"].perform(Task(settled.resolved or {}), own))
    made = next(one for one in told if hasattr(one, "thumbnail"))
    for file in (made.data, made.thumbnail):
        assert not any(word in file for word in (b"author", b"PK\x03\x04", b"script", b"eXIf", b"Exif"))
    assert b"a cat" in made.data
