"""Textual inversions in prompts, on a very small model: every form of file, and that its vectors are what acts."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file
from torch import Tensor

import tiny
from atelier.adapters import hidden
from atelier.adapters.hidden import made_up
from atelier.adapters.inversion import read_embedding, stored_name
from atelier.errors import BadFile, BadInput
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from pipeline_support import PLENTY, engine_on, request

WIDTH = 32


def rows(*words: str) -> Tensor:
    """The rows that the model has for these words."""
    table = tiny.modules().networks["text"].token_embedding.weight.detach()
    ids = [token for word in words for token in tiny.tokenizer().encode(word)]
    return table[ids].clone()


def a1111(path: Path, vectors: Tensor) -> None:
    said = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "other", "step": 7}
    torch.save(said, path.with_suffix(".pt"))


def original(path: Path, vectors: Tensor) -> None:
    """That of the paper's program: a dictionary of parameters, and tokens as tensors."""
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters}, path.with_suffix(".pt"))


def one_tensor(path: Path, vectors: Tensor) -> None:
    save_file({"emb_params": vectors}, path.with_suffix(".safetensors"))


def diffusers(path: Path, vectors: Tensor) -> None:
    torch.save(OrderedDict({"<cat-toy>": vectors}), path.with_suffix(".bin"))


def row_by_row(path: Path, vectors: Tensor) -> None:
    names = ["<toy>", *(f"<toy>_{n}" for n in range(1, len(vectors)))]
    save_file({name: row.clone() for name, row in zip(names, vectors, strict=True)}, path.with_suffix(".safetensors"))


def pair(path: Path, vectors: Tensor) -> None:
    """For two text encoders, of which this model has the first."""
    save_file({"clip_l": vectors, "clip_g": torch.zeros(len(vectors), 1280)}, path.with_suffix(".safetensors"))


def with_output(path: Path, vectors: Tensor) -> None:
    """OneTrainer keeps what the text encoder says of them, too."""
    torch.save(OrderedDict(clip_l_out=torch.zeros_like(vectors), clip_l=vectors), path.with_suffix(".pt"))


def in_image(path: Path, vectors: Tensor) -> None:
    said = {"string_to_param": {"*": {"TORCHTENSOR": vectors.tolist()}}, "name": path.stem, "step": 1}
    info = PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(json.dumps(said).encode()).decode())
    Image.new("RGB", (8, 8)).save(path.with_name("shown.png"), pnginfo=info)


def mixed(halves: bytes, height: int) -> Image.Image:
    """Columns of this height, three halves in a pixel, mixed with A1111's made-up numbers, below other high bits."""
    width, numbers, state = -(-len(halves) // (3 * height)), bytearray(), 0
    for half in halves.ljust(3 * width * height, b"\0"):
        state = (1664525 * state + 1013904223) % 2**32
        numbers.append(half ^ (state % 255 & 15) | 0x50)
    return Image.frombytes("RGB", (width, height), bytes(numbers))


def with_pixels(path: Path, data: bytes, colour: str = "#808183") -> None:
    """An image of the data beside a picture, a black column on both sides of it, and a black border around all."""
    low, high = mixed(bytes(own & 15 for own in data), 64), mixed(bytes(own >> 4 for own in data), 64)
    sheet = Image.new("RGB", (2 * low.width + 8 + 32 + 4, 72), "black")
    sheet.paste(low, (4, 4))
    sheet.paste(Image.new("RGB", (32, 64), colour), (4 + low.width + 1, 4))
    sheet.paste(high, (4 + low.width + 32 + 2, 4))
    sheet.save(path, lossless=True)


def in_pixels(path: Path, vectors: Tensor) -> None:
    said = {"string_to_param": {"*": {"TORCHTENSOR": vectors.tolist()}}, "name": path.stem, "step": 1}
    with_pixels(path.with_name("drawn.webp"), zlib.compress(json.dumps(said).encode(), 9))


FORMS: dict[str, Callable[[Path, Tensor], None]] = {
    form.__name__: form
    for form in (a1111, original, one_tensor, diffusers, row_by_row, pair, with_output, in_image, in_pixels)
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    (folder / "embeddings").mkdir()
    one_tensor(folder / "embeddings" / "EasyNegative", rows("dog"))
    save_file({"emb_params": torch.zeros(2, 768)}, folder / "embeddings" / "wide.safetensors")
    Image.new("RGB", (8, 8)).save(folder / "embeddings" / "EasyNegative.png")
    Image.new("RGB", (8, 8)).save(folder / "embeddings" / "EasyNegative.preview.png")
    return folder


@pytest.fixture(scope="module")
def engine(models: Path) -> Engine:
    return engine_on(models / "tiny", budget=PLENTY)


def image(engine: Engine, prompt: str, **fields: object) -> bytes:
    (made,) = engine.generate(request(prompt=prompt, steps=1, **fields))
    return made.image.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_the_name_stands_for_the_vectors_in_every_form(form: str, models: Path, tmp_path: Path):
    """Those of words that the model knows make the image that the words make, to the last bit."""
    folder = tmp_path / "embeddings"
    folder.mkdir()
    FORMS[form](folder / "My-Style", rows("red", "cat"))
    (file,) = folder.iterdir()
    found = read_embedding(file).fitting((WIDTH,))
    assert found is not None
    assert torch.equal(found[0], rows("red", "cat"))
    engine = engine_on(models / "tiny")
    engine.library = Library((tmp_path, models))
    assert image(engine, "a my-style dog") == image(engine, "a red cat dog")


def test_it_acts_in_negative_prompts_with_weights_and_at_some_steps(engine: Engine):
    plain = image(engine, "a red cat")
    without, dog = (image(engine, "a red cat", negative_prompt=text) for text in ("easynegative", "dog"))
    assert without == dog != plain
    assert image(engine, "a (EasyNegative:1.4)") == image(engine, "a (dog:1.4)") != image(engine, "a dog")
    assert image(engine, "a [cat:EasyNegative:0]") == image(engine, "a dog")


def test_infotexts_say_the_hash_of_the_file(engine: Engine, models: Path):
    digits = hashlib.sha256((models / "embeddings" / "EasyNegative.safetensors").read_bytes()).hexdigest()[:12]
    (made,) = engine.generate(request(prompt="a cat", negative_prompt="EasyNegative", steps=1))
    assert f'TI hashes: "EasyNegative: {digits}"' in made.infotext
    (without,) = engine.generate(request(prompt="easy negative things", steps=1))
    assert "TI hashes" not in without.infotext, "other tokens than the name's"


KEYS = ("string_to_param.*", "clip_l")
"""A1111's and ComfyUI's form, and OneTrainer's."""


@pytest.mark.parametrize("key", KEYS)
def test_those_that_a_lora_brings_are_known_where_the_lora_is(key: str, models: Path, tmp_path: Path):
    """Before one of the same name in a file of its own, and without what the text encoder is to say of it."""
    (tmp_path / "lora").mkdir()
    (tmp_path / "embeddings").mkdir()
    one_tensor(tmp_path / "embeddings" / "zwx", rows("dog"))
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    bundle = {
        f"bundle_emb.zwx.{key}": rows("red", "cat"),
        "bundle_emb.zwx.clip_l_out": torch.zeros(2, WIDTH),
        "bundle_emb.other one.clip_l": rows("dog"),
        f"{layer}.lora_up.weight": torch.zeros(64, 1, 1, 1),
        f"{layer}.lora_down.weight": torch.zeros(1, 64, 1, 1),
    }
    save_file(bundle, tmp_path / "lora" / "brings.safetensors")
    engine = engine_on(models / "tiny")
    engine.library = Library((tmp_path, models))
    warnings: list[str] = []
    resolved = engine.resolve(request(prompt="a zwx dog<lora:brings>"), warnings.append)
    assert [(own.name, Path(own.path).stem) for own in resolved.inversions] == [("zwx", "brings")]
    assert warnings == []
    assert image(engine, "a zwx dog<lora:brings>") == image(engine, "a red cat dog")
    assert image(engine, "a dog<lora:brings>", negative_prompt="zwx") == image(
        engine, "a dog", negative_prompt="red cat"
    )
    assert image(engine, "a other one<lora:brings>") == image(engine, "a dog")
    assert image(engine, "a zwx dog") == image(engine, "a dog dog")


def test_one_that_an_infotext_says_was_used_must_be_there(engine: Engine):
    told: list[str] = []
    hashes = {"ti_hashes": "Nowhere: 0123456789ab, EasyNegative: 0123456789ab"}
    with pytest.raises(BadInput, match="prompt: embedding 'Nowhere' is not there: put it into a folder 'embeddings'"):
        engine.resolve(request(prompt="a nowhere cat", **hashes))
    engine.resolve(request(prompt="a nowhere cat", lenient=True, **hashes), told.append)
    assert told == ["embedding 'Nowhere' is not there: its name is read as text"]
    engine.resolve(request(prompt="an easynegative cat", **hashes), told.append)
    assert told[-1].startswith("embedding 'EasyNegative': the hash 0123456789ab was asked for; ")


def test_one_for_another_model_is_told_and_read_as_text(engine: Engine):
    warnings: list[str] = []
    resolved = engine.resolve(request(prompt="a wide cat"), warnings.append)
    assert resolved.inversions == ()
    assert warnings == ["embedding 'wide' has vectors 768 wide, and tiny needs 32; its name is read as text"]


def test_one_that_changes_after_it_was_resolved_is_refused(models: Path):
    engine = engine_on(models / "tiny")
    one_tensor(models / "embeddings" / "fickle", rows("dog"))
    resolved = engine.resolve(request(prompt="a fickle cat"))
    one_tensor(models / "embeddings" / "fickle", rows("cat", "dog"))
    assert "has changed since the request was resolved" in str(list(engine.run(resolved))[-1])


def test_made_up_numbers_are_those_of_the_webui():
    numbers = made_up(100_100)
    assert numbers[:16].tolist() == [253, 242, 127, 44, 157, 27, 239, 133, 38, 79, 167, 4, 177, 95, 130, 79]
    assert int(numbers[100:].sum(dtype=int)) == 12731374


def test_pixels_of_large_images_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with_pixels(tmp_path / "a.png", zlib.compress(b'{"name": "ink"}'))
    monkeypatch.setattr(hidden, "MOST_PIXELS", 50 * 50)
    assert stored_name(tmp_path / "a.png") is None


def test_images_without_one_have_no_name(tmp_path: Path):
    too_large(tmp_path / "large.png")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    assert [stored_name(tmp_path / name) for name in ("large.png", "red.png", "none.png")] == [None] * 3
    with_pixels(tmp_path / "red.png", zlib.compress(b'{"name": "ink"}'))
    assert stored_name(tmp_path / "red.png") == "ink"


def broken(path: Path) -> None:
    info = PngInfo()
    info.add_text("sd-ti-embedding", "e30x")
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


def bomb(path: Path) -> None:
    with_pixels(path, zlib.compress(b'{"a": "%s"}' % (b" " * 40_000_000), 9))


def uneven(path: Path) -> None:
    drawn = Image.new("RGB", (8, 8), "red")
    drawn.paste("black", (2, 0, 3, 8))
    drawn.save(path)


def too_large(path: Path) -> None:
    """A header of an image that no program would open."""
    Image.new("RGB", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a plain image": (lambda path: Image.new("RGB", (8, 8)).save(path), "carries no textual inversion"),
    "a damaged one": (broken, "damaged"),
    "an image with a bomb in it": (bomb, "damaged"),
    "an image with damaged pixels": (lambda path: with_pixels(path, b"\x78\xda" + bytes(400)), "damaged"),
    "an image of other pixels": (lambda path: with_pixels(path, b"\x79" * 400), "carries no textual inversion"),
    "an image of uneven sides": (uneven, "carries no textual inversion"),
    "another image": (lambda path: Image.new("RGB", (8, 8)).save(path, "GIF"), "cannot be read as an image"),
    "an image without end": (too_large, "cannot be read as an image"),
    "no numbers": (lambda path: save_file({"emb_params": torch.full((1, 32), torch.nan)}, path), "no finite numbers"),
    "a model": (lambda path: save_file({"a.weight": torch.zeros(2000, 768)}, path), "is no textual inversion"),
    "lengths": (lambda path: save_file({"a": torch.zeros(3), "b": torch.zeros(4)}, path), "of different lengths"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_none_is_told_in_one_line(name: str, tmp_path: Path):
    make, told = BAD[name]
    path = tmp_path / ("x.png" if "image" in name or "damaged" in name else "x.safetensors")
    make(path)
    with pytest.raises(BadFile, match=told) as caught:
        read_embedding(path)
    assert "\n" not in str(caught.value)
