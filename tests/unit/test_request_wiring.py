"""Small rules of requests and of the texts that they are read from, each with what it must give, typed here."""

from __future__ import annotations

import gzip
import io
import json
import struct
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atelier.errors import BadInput
from atelier.request.infotext import Infotext, interpret, read
from atelier.request.infotext.image import Unreadable, decode_comment, read_image, save_options, user_comment
from atelier.request.infotext.settings import Reading, number, settings_of
from atelier.request.infotext.text import is_parameter_line, split_text
from atelier.request.model import Request, check_side
from atelier.request.table import flat

LINE = "Steps: 20, Sampler: Euler, Seed: 5"
TEXT = f"a cat\nNegative prompt: dog\n{LINE}"


def said(pair: str) -> Reading:
    return settings_of(read(f"a cat\n{LINE}, {pair}"))


# Requests


@pytest.mark.parametrize(("value", "shown"), [(5, "output 5: "), (["a"], "output ['a']: ")])
def test_an_output_that_is_no_name_is_told(value: Any, shown: str) -> None:
    with pytest.raises(BadInput) as caught:
        Request(prompt="a", output=value)
    assert str(caught.value).startswith(shown)
    assert "\n" not in str(caught.value)


def test_a_long_value_is_shown_by_its_beginning() -> None:
    with pytest.raises(BadInput) as caught:
        Request.model_validate({"prompt": "a", "steps": "x" * 59})
    assert str(caught.value).startswith(f"steps '{'x' * 56}...: ")
    with pytest.raises(BadInput) as caught:
        Request.model_validate({"prompt": "a", "steps": "x" * 58})
    assert str(caught.value).startswith(f"steps '{'x' * 58}': ")


def test_sides_near_the_ends_have_one_way_out() -> None:
    for side, way in ((100, "96 or 104"), (66, "64 or 72"), (4092, "4088 or 4096"), (4100, "4096"), (60, "64")):
        with pytest.raises(BadInput, match=f"width {side} is not a multiple of 8: use {way}$"):
            check_side("width", side, 8)
    assert check_side("width", 64, 8) is None


def test_names_of_files_may_hold_bytes_that_are_no_text() -> None:
    assert Request(prompt="a", model="x\udcff", output="y\udcff").model == "x\udcff"
    with pytest.raises(BadInput, match="sampler holds"):
        Request(prompt="a", sampler="x\udcff")


def test_a_group_that_is_not_there_has_no_fields() -> None:
    assert not {"hires", "hires_steps", "sampling"} & flat(Request(prompt="a")).keys()


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("7", 7), ("+7", 7), ("-7", -7), (" 7 ", 7), ("007", 7), ("7.0", 7.0), (".5", 0.5), ("7.", 7.0)),
        *(("7e2", 700.0), ("7E-1", 0.7), ("-1.5e+1", -15.0), ("1e400", None), ("0x7", None), ("", None)),
        *(("seven", None), ("1_000", None), ("7 8", None), ("nan", None), ("--7", None), ("e5", None)),
    ],
)
def test_what_is_a_number(text: str, value: float | None) -> None:
    found = number(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("pair", "warning"),
    [
        ("Clip skip: many", "Clip skip: 'many' is left out, a whole number is needed"),
        ("CFG scale: much", "CFG scale: 'much' is left out, a number is needed"),
        ("Tiling: maybe", "Tiling: 'maybe' is left out, True or False is needed"),
        ("Size: large", "Size: 'large' is left out, WIDTHxHEIGHT is needed"),
        (f"Tiling: {'x' * 38}", f"Tiling: '{'x' * 38}' is left out, True or False is needed"),
        (f"Tiling: {'x' * 39}", f"Tiling: '{'x' * 36}… is left out, True or False is needed"),
    ],
)
def test_a_value_that_is_none_is_told(pair: str, warning: str) -> None:
    assert said(pair).warnings == (warning,)
    assert said(pair).lies == ()


@pytest.mark.parametrize(
    ("pair", "lie"),
    [
        ("CFG scale: 200", "CFG scale '200' is out of range: it is from 0 to 100"),
        ("Variation seed: 1" + "0" * 20, "to 18446744073709551615"),
        ("Variation seed: -1" + "0" * 20, "it is from -9223372036854775808 to "),
        ("Sigma tmax: -1", "Sigma tmax '-1' is out of range: it is from 0 to 1000000000"),
        ("Size: 0x512", "Size '0x512' is out of range: it is from 1 to 65536"),
        ("Eta: 100.5", "Eta '100.5' is out of range: it is from 0 to 100"),
    ],
)
def test_a_number_out_of_range_is_told_with_the_range(pair: str, lie: str) -> None:
    (found,) = said(pair).lies
    assert lie in found
    with pytest.raises(BadInput, match=r"^infotext: "):
        said(pair).checked()


@pytest.mark.parametrize("pair", ["Clip skip: 2.0", "Tiling: TRUE", "Tiling: 1", "Size: 8×16", "Size:  8 x 16 "])
def test_other_ways_to_write_a_value(pair: str) -> None:
    found = said(pair).settings
    assert (found.clip_skip, found.tiling, found.size) in {(2, None, None), (None, True, None), (None, None, (8, 16))}
    assert said(pair).warnings == ()


@pytest.mark.parametrize("pair", ["Tiling: False", "Tiling: 0", "Size: -1x-1", "Clip skip: 1"])
def test_what_says_that_there_is_nothing(pair: str) -> None:
    found = said(pair)
    assert (found.settings.tiling, found.settings.size, found.settings.clip_skip) == (None, None, None)
    assert (found.warnings, found.lies) == ((), ())


@pytest.mark.parametrize("word", ["undefined", "Unknown", "NULL", "[object Object]"])
def test_words_for_nothing(word: str) -> None:
    assert said(f"Model: {word}, Clip skip: {word}").settings.given().keys() == {"prompt", "steps", "sampler", "seed"}
    assert said(f"Model: {word}").warnings == ()
    assert said(f"Model: {word}, Version: atelier-1").settings.model == word, "ours leave out what has no value"


@pytest.mark.parametrize("word", ["Automatic", "none", "Default", "default (model)", "Baked VAE", "unknown"])
def test_words_for_the_models_own_vae(word: str) -> None:
    assert said(f"VAE: {word}").settings.vae is None
    assert said("VAE: mse").settings.vae == "mse"
    if word != "unknown":
        assert said(f"Hires upscaler: {word}").settings.hires_upscaler == word


def test_old_hypernetworks_are_tags() -> None:
    assert said("Hypernet: a, Hypernet strength: 0.5").settings.prompt == "a cat<hypernet:a:0.5>"
    assert said("Hypernet: a, Hypernet hash: 1").settings.prompt == "a cat<hypernet:a:1.0>"
    assert said("Hypernet strength: 0.5").settings.prompt == "a cat"


@pytest.mark.parametrize(
    ("pairs", "size", "resized"),
    [
        ("Size: 1024x512, First pass size: 0x0", (768, 384), (1024, 512)),
        ("Size: 1024x512, First pass size: 512x256", (512, 256), (1024, 512)),
        ("Size: 1024x512, First pass size: 512x0", (768, 384), (1024, 512)),
        ("Size: 1024x512, First pass size: no", (1024, 512), None),
        ("First pass size: 512x256", None, None),
    ],
)
def test_the_size_of_the_first_pass(pairs: str, size: tuple[int, int] | None, resized: tuple[int, int] | None) -> None:
    found = said(pairs).settings
    assert (found.size, found.hires_resize) == (size, resized)


def test_what_is_nothing_is_empty() -> None:
    assert read('{"a": 1}') == Infotext("", "", (), "text", {"a": 1}, ())
    assert read("") == Infotext("", "", (), "text", {}, ())


# Lines


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("Steps: 20, Seed: 5", True),
        ("Steps: 20, Model: x", True),
        ("Seed: 5, Steps: 20", False),
        ("Steps: many, Seed: 5", False),
        ("Steps: 20", False),
        ("Steps: 20, a: b", False),
        ("Seed: 5, Mood: b, Light: d", True),
        ("Mood: b, Light: d, Frame: f", False),
        ("Mood: b, Light: d, Frame: f, Seed: 5", True),
        ("- Steps: 20, Seed: 5, Size: 8x8", False),
        ("Negative prompt: x, Steps: 20, Seed: 5", False),
        ('Prompt: "a", Negative prompt: "b"', True),
        ("Prompt: a, Negative prompt: b", False),
        ("Steps 20, Seed 5", False),
        ("  Steps: 20, Seed: 5  ", True),
    ],
)
def test_what_is_a_line_of_parameters(line: str, is_one: bool) -> None:
    assert is_parameter_line(line) is is_one


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (f"```\na cat\n{LINE}\n```", "a cat", ""),
        (f"``\na cat\n{LINE}", "``\na cat", ""),
        (f"Prompt: a cat\nNegative prompt: dog\n{LINE}", "a cat", "dog"),
        (f"Prompt: a cat\n{LINE}", "a cat", ""),
        (f"a cat. {LINE}, Size: 8x8", "a cat", ""),
        (f"a cat.Negative prompt: dog. {LINE}, Size: 8x8", "a cat", "dog"),
        (f"a cat\nNegative prompt: dog\n hen \n\nNegative prompt: pig\n{LINE}", "a cat", "dog\n hen \n\npig"),
        (f"\ufeffa cat\r\nNegative prompt:dog\r\n{LINE}\0", "a cat", "dog"),
        (f'x\n{LINE}, Prompt: "a\\ncat", Negative prompt: "dog "', "a\ncat", "dog "),
        (f"x\n{LINE}, Prompt: y", "x", ""),
        (f"{LINE}, Prompt: y, Negative prompt: z", "y", "z"),
    ],
)
def test_where_prompts_begin_and_end(text: str, prompt: str, negative: str) -> None:
    parts = split_text(text)
    assert (parts.prompt, parts.negative_prompt, parts.has_line) == (prompt, negative, True)
    assert {pair.key for pair in parts.pairs} <= {"Steps", "Sampler", "Seed", "Size"}


def test_four_core_keys_are_parameters_whatever_stands_behind() -> None:
    found = read(f"a cat\n{LINE}, CFG scale: 7\nand\nmore")
    assert (found.prompt, found.get("CFG scale"), found.get("Text behind")) == ("a cat", "7", "and\nmore")
    assert read(f"a cat\n{LINE}\nand\nmore").dialect == "text"


def test_a_graph_of_a_hundred_texts_is_read_whole() -> None:
    pieces = {f"text_{i}": [f"t{i}", 0] for i in range(1, 100)}
    nodes = {f"t{i}": {"class_type": "Text", "inputs": {"text": f"w{i}"}} for i in range(1, 100)}
    sampler = {"seed": 1, "steps": 20, "positive": ["join", 0], "negative": ["n", 0]}
    nodes |= {
        "3": {"class_type": "KSampler", "inputs": sampler},
        "join": {"class_type": "Text Concatenate", "inputs": {"delimiter": " ", **pieces}},
        "n": {"class_type": "Text", "inputs": {"text": "bad"}},
    }
    found = read(json.dumps(nodes))
    assert found.prompt == " ".join(f"w{i}" for i in range(1, 100))
    assert interpret(found).warnings == ()


# Images


def saved(image_format: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (16, 12)).save(buffer, format=image_format, **options)
    return buffer.getvalue()


def chunks(**texts: str) -> bytes:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key.replace("__", "-"), value)
    return saved("PNG", pnginfo=info)


FIELDS = json.dumps({"prompt": "a cat", "steps": 9, "seed": 5})
NODES = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "positive": ["6", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
}


@pytest.mark.parametrize(
    "key", ["parameters", "invokeai_metadata", "sd__metadata", "Comment", "UserComment", "generation_data"]
)
def test_chunks_with_an_object(key: str) -> None:
    assert read_image(chunks(**{key: FIELDS})) == read(FIELDS)
    assert read_image(chunks(**{f"{key}2": FIELDS})) is None


def test_a_graph_in_its_chunk() -> None:
    found = read_image(chunks(prompt=json.dumps(NODES), workflow="{}"))
    assert found is not None
    assert (found.dialect, found.prompt) == ("comfyui", "a cat")


def test_of_several_chunks_the_first_program_counts() -> None:
    other = json.dumps({"prompt": "a dog", "steps": 9, "seed": 5})
    for first, second in (("invokeai_metadata", "sd__metadata"), ("Comment", "UserComment")):
        assert read_image(chunks(**{second: other, first: FIELDS})) == read(FIELDS)
    assert read_image(chunks(parameters=TEXT, prompt=json.dumps(NODES))) == read(TEXT)


@pytest.mark.parametrize("tag", [0x0110, 0x010F, 0x010E])
@pytest.mark.parametrize("begin", ["prompt:", "Prompt:", ""])
def test_tags_with_a_graph(tag: int, begin: str) -> None:
    exif = Image.Exif()
    exif[tag] = begin + json.dumps(NODES)
    found = read_image(saved("JPEG", exif=exif))
    assert found is not None
    assert (found.dialect, found.prompt) == ("comfyui", "a cat")
    other = Image.Exif()
    other[0x0131] = begin + json.dumps(NODES)
    assert read_image(saved("JPEG", exif=other)) is None


def test_comments_in_japanese_and_without_a_code() -> None:
    assert decode_comment(b"JIS\0\0\0\0\0" + "猫".encode("iso2022_jp")) == "猫"
    assert decode_comment(b"ASCII\0\0\0a cat\0\0") == decode_comment(b"a cat\0") == "a cat"
    assert decode_comment(b"UNICODE\0" + "猫と犬".encode("utf-16-be")) == "猫と犬"
    assert decode_comment(b"UNICODE\0" + '{"a": "猫"}'.encode()) == '{"a": "猫"}'
    assert decode_comment(b"UNICODE\0" + "Steps: 1, 猫".encode("utf-16-le")) == "Steps: 1, 猫"


def test_a_packet_of_bytes_in_a_webp() -> None:
    packet = f"<x><exif:UserComment><rdf:Alt><rdf:li>{TEXT}</rdf:li></rdf:Alt></exif:UserComment></x>".encode()
    assert read_image(saved("WEBP", xmp=packet)) == read(TEXT)
    assert read_image(saved("WEBP", xmp=packet.replace(b"UserComment", b"Title"))) is None


def test_how_each_format_carries_a_text() -> None:
    assert save_options("jpeg", "a") == save_options("WEBP", "a") == save_options("avif", "a")
    assert save_options("JPEG", "a") == {"exif": user_comment("a")}
    assert save_options("gif", "é") == {"comment": "é".encode()}
    with pytest.raises(BadInput, match="BMP cannot carry an infotext: save as PNG, JPEG, WebP, AVIF or GIF"):
        save_options("BMP", "a")


def test_what_is_no_image_is_told_by_its_reason() -> None:
    with pytest.raises(Unreadable, match=r"^is no image that can be read \(its format is not known\)$"):
        read_image(b"text")
    with pytest.raises(Unreadable, match="is no image that can be read") as caught:
        read_image(saved("PNG")[:40])
    assert len(str(caught.value)) < 120


def hidden(data: bytes, signature: bytes, bits: int, mode: str = "RGB") -> bytes:
    """Data in the lowest bits of red, green and blue, down the columns; `bits` is the length that is said."""
    stream = signature + struct.pack(">I", bits) + data
    digits = "".join(f"{byte:08b}" for byte in stream)
    image = Image.new(mode, (40, 48), (200, 100, 50, 254)[: len(mode)])
    for i, digit in enumerate(digits):
        place, channel = (i // 3 // 48, i // 3 % 48), i % 3
        values = list(image.getpixel(place))  # pyright: ignore[reportArgumentType]
        values[channel] = values[channel] & ~1 | int(digit)
        image.putpixel(place, tuple(values))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def test_a_length_that_cannot_be_is_no_text() -> None:
    data = TEXT.encode()
    assert read_image(hidden(data, b"stealth_rgbinfo", 8 * len(data))) == read(TEXT)
    assert read_image(hidden(data, b"stealth_rgbinfo", 8 * len(data), "RGBA")) == read(TEXT)
    assert read_image(hidden(data, b"stealth_rgbinfo", 0)) is None
    assert read_image(hidden(data, b"stealth_rgbinfo", 2**31)) is None
    assert read_image(hidden(data, b"stealth_rgbinfo", 40 * 48 * 3)) is None
    assert read_image(hidden(data, b"stealth_pnginfo", 8 * len(data))) is None, "that one lies in the transparency"
    packed = gzip.compress(data)
    assert read_image(hidden(packed, b"stealth_rgbcomp", 8 * len(packed))) == read(TEXT)
    assert read_image(hidden(packed[:-20], b"stealth_rgbcomp", 8 * len(packed) - 160)) != read(TEXT)
    assert read_image(hidden(data, b"stealth_rgbcomp", 8 * len(data))) is None


# What single programs add


def test_novelais_chunks_say_the_model() -> None:
    comment = json.dumps({"prompt": "a cat", "uc": "bad", "steps": 28, "sampler": "k_euler", "scale": 5, "seed": 3})
    found = read_image(chunks(Software="NovelAI", Source="NovelAI Diffusion V3", Comment=comment))
    assert found is not None
    assert (found.dialect, found.get("Model"), found.prompt) == ("novelai", "NovelAI Diffusion V3", "a cat")
    other = read_image(chunks(Software="x", Source="NovelAI Diffusion V3", Comment=comment))
    assert other is not None
    assert (other.dialect, other.get("Model")) == ("novelai", None)


def test_prompts_of_old_invokeai_in_several_pieces() -> None:
    image = {"prompt": [{"prompt": "a cat", "weight": 1}, "in the rain"], "steps": 9, "seed": 1}
    assert read(json.dumps({"app_id": "invoke-ai/InvokeAI", "image": image})).prompt == "a cat in the rain"


def test_a_negative_prompt_that_cannot_be_read_is_told() -> None:
    nodes: dict[str, Any] = {**NODES, "8": {"class_type": "Some LLM", "inputs": {"api": "x", "n": 2}}}
    nodes["3"] = {"class_type": "KSampler", "inputs": {**NODES["3"]["inputs"], "negative": ["8", 0]}}
    assert interpret(read(json.dumps(nodes))).warnings == ("negative prompt: node 8 (Some LLM) cannot be read",)


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("v1.5.9", {"old_timelines", "pad_conds_v0", "downcast_alphas", "refiner_by_steps"}),
        ("v1.6.0", {"downcast_alphas", "refiner_by_steps"}),
        ("v1.7.0-224-gabc", {"downcast_alphas", "refiner_by_steps"}),
        ("v1.7.0-225-gabc", {"refiner_by_steps"}),
        ("v1.8.0-RC", {"refiner_by_steps"}),
        ("v1.8.0", set[str]()),
        ("f1.0.0v1.5.1", set[str]()),
    ],
)
def test_until_when_a1111_did_otherwise(version: str, flags: set[str]) -> None:
    found = settings_of(read(f"[a:b:3]\nSteps: 20, Sampler: DDIM, Seed: 5, Refiner: x, Version: {version}")).settings
    names = ("old_timelines", "pad_conds_v0", "downcast_alphas", "refiner_by_steps")
    assert {name for name in names if getattr(found, name)} == flags
    plain = settings_of(read(f"a\nSteps: 20, Sampler: Euler, Seed: 5, Version: {version}")).settings
    assert {name for name in names if getattr(plain, name)} == flags & {"downcast_alphas"}


def graph(**inputs: Any) -> Infotext:
    """A sampler of these inputs, and a node 20 of others."""
    own = {"seed": 1, "steps": 20, "positive": ["6", 0], **inputs.pop("sampler")}
    nodes = {**NODES, "3": {"class_type": "KSampler", "inputs": own}}
    return read(json.dumps({**nodes, "20": {"class_type": "X", "inputs": inputs}}))


def test_the_only_value_of_a_node_is_its_value() -> None:
    assert graph(sampler={"steps": ["20", 0]}, unheard=99).get("Steps") == "99"
    assert graph(sampler={"steps": ["20", 0]}, unheard=99, of=98).get("Steps") is None


def test_a_node_of_two_sides_leads_to_the_two_texts_of_a_loader() -> None:
    loader = {"positive": "a cat", "negative": "bad"}
    apply = {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["20", 1], "negative": ["20", 2]}}
    sampler = {"seed": 1, "steps": 20, "positive": ["9", 0], "negative": ["9", 1]}
    nodes = {
        "3": {"class_type": "KSampler", "inputs": sampler},
        "9": apply,
        "20": {"class_type": "Efficient Loader", "inputs": loader},
    }
    found = read(json.dumps(nodes))
    assert (found.prompt, found.negative_prompt) == ("a cat", "bad")


@pytest.mark.parametrize(
    ("pairs", "dialect"),
    [
        ("Size: 8x8, Created Date: 2024-05-01", "civitai-copy"),
        ('Size: 8x8, "ink: 0123456789"', "civitai-copy"),
        ("Size: 8x8", "a1111"),
        ("Model: x", "a1111"),
    ],
)
def test_what_civitais_button_copies(pairs: str, dialect: str) -> None:
    assert read(f"a cat\n{LINE}, {pairs}").dialect == dialect
