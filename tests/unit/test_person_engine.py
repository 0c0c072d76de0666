"""A person in a prompt: PhotoMaker through a request, on a tiny model of XL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor

import face_support
import tiny_sd
from atelier.adapters.photomaker import TRIGGER
from atelier.checkpoints.image_encoder import ImageEncoder
from atelier.checkpoints.write import write_ldm
from atelier.errors import AtelierError, BadInput
from atelier.models.photomaker import PhotoMaker
from atelier.models.unet import UNet
from atelier.nn.ports import Conditioning, Ports
from atelier.pipeline.conditioning import encode
from atelier.pipeline.persons import MARK, Person, met
from atelier.pipeline.prepared import prepare
from atelier.pipeline.resources import TEXT
from atelier.prompt import Clock, silent
from atelier.request.infotext import read, to_request
from atelier.request.model import Request
from atelier.request.resolved import Resolved, ResolvedPerson
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache
from photomaker_support import FACE, WIDTH, made

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)
LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "photomaker").mkdir()
    write_ldm(tiny_sd.sdxl(), folder / "xl.safetensors")
    for name, face in (("first", None), ("second", FACE)):
        save_file(made(face)[1], folder / "photomaker" / f"{name}.safetensors")
    for name, colour in (("anna", (255, 0, 0)), ("berta", (255, 0, 90)), ("nobody", (0, 0, 9))):
        image = Image.new("RGB", (128, 128), colour if name == "nobody" else (0, 0, 0))
        ImageDraw.Draw(image).rectangle((40, 40, 46, 46), colour)
        image.save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine(CPU, Library((folder,)), HashCache(), version="1", budget=2**30)


BASE = {"prompt": f"a man {TRIGGER} runs", "model": "xl", "steps": 5, "seed": 7, "sampler": "Euler"}
SIZE = {"width": 64, "height": 64}


def request(*faces: str, **fields: object) -> Request:
    return request_of({**BASE, **SIZE, "faces": faces, **fields})


def pixels(engine: Engine, *faces: str, **fields: object) -> bytes:
    (image,) = engine.generate(request(*faces, **fields))
    return image.image.tobytes()


def told(engine: Engine, monkeypatch: pytest.MonkeyPatch, *faces: str, **fields: object) -> list[Tensor]:
    """What the prompt says in each call."""
    seen: list[Tensor] = []
    forward = UNet.forward

    def watched(self: UNet, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports) -> Tensor:
        seen.append(cond.tokens[1])
        return forward(self, x, t, cond, ports)

    with monkeypatch.context() as patch:
        patch.setattr(UNet, "forward", watched)
        engine.generate(request(*faces, **fields))
    return seen


def test_the_person_matters(engine: Engine, folder: Path) -> None:
    anna, plain = f"{folder}/anna.png model=first", pixels(engine)
    found = [pixels(engine, text) for text in (anna, f"{folder}/berta.png model=first", f"{anna} weight=0.5")]
    found += [pixels(engine, anna, f"{folder}/berta.png model=first"), pixels(engine, f"{anna} start=0.8")]
    assert len({plain, *found}) == 6


def test_a_person_comes_after_a_fifth_of_the_steps(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the authors' pipeline: the call whose number is the share of the steps is the last one without."""
    plain = told(engine, monkeypatch, prompt="a man runs")
    seen = told(engine, monkeypatch, f"{folder}/anna.png model=first")
    assert [torch.equal(own, plain[0]) for own in seen] == [True, True, False, False, False]
    (first,) = engine.generate(request(f"{folder}/anna.png model=first start=0"))
    assert "start=0" in first.infotext
    at_once = told(engine, monkeypatch, *(to_request(read(first.infotext)).steering.faces))
    assert not any(torch.equal(own, plain[0]) for own in at_once)
    later = told(engine, monkeypatch, f"{folder}/anna.png model=first start=0.6")
    assert [torch.equal(own, plain[0]) for own in later] == [True, True, True, True, False]
    prompt = met(prepare(f"a man {TRIGGER}, [{TRIGGER}art:x:0.5]", "", Clock(50), silent), 0.2, 50).parts[0]
    assert [MARK in prompt.active(call) for call in (0, 10, 11, 49)] == [False, False, True, True]
    assert prompt.active(0) == f"a man, {TRIGGER}art"
    assert prompt.active(49) == f"a man{MARK}, x"


def test_the_share_is_of_the_calls_that_are_made(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an image to start from with a strength of 0.5, half of 10; of a sampler that calls twice, every call."""
    image = {"image": f"{folder}/anna.png", "denoising_strength": 0.5, "steps": 10}
    anna = f"{folder}/anna.png model=first start=0.4"
    plain = told(engine, monkeypatch, **image, prompt="a man runs")
    seen = told(engine, monkeypatch, anna, **image)
    there = [not torch.equal(own, plain[0]) for own in seen]
    assert there == [False] * 3 + [True] * (len(there) - 3)
    assert len(there) < 8
    twice = told(engine, monkeypatch, anna, sampler="Heun")
    assert [torch.equal(own, plain[0]) for own in twice] == [True] * 5 + [False] * 4
    late = met(prepare(f"a man {TRIGGER}", "", Clock(20), silent), 0.5, 60).parts[0]
    assert [MARK in late.active(call) for call in (0, 30, 31, 59)] == [False, False, True, True]


def test_where_nobody_is_in_the_prompt_the_trigger_is_not_read(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the other one of two passes, and without a weight."""
    fields = {"hires_resize": (96, 96), "hires_upscaler": "Latent", "denoising_strength": 1.0, "steps": 2}
    plain = told(engine, monkeypatch, prompt="a man runs", steps=1)[0]
    for passes, without in (("first", [2, 3]), ("second", [0, 1])):
        seen = told(engine, monkeypatch, f"{folder}/anna.png model=first start=0.4 pass={passes}", **fields)
        assert [call for call, own in enumerate(seen) if own.equal(plain) and call in without] == without
        assert not all(own.equal(plain) for own in seen)
    none = pixels(engine, f"{folder}/anna.png:0 model=first")
    assert none == pixels(engine, prompt="a man runs") != pixels(engine)


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_word_before_the_trigger_is_the_person(engine: Engine, folder: Path, name: str) -> None:
    """Once for each of their tokens; all other states are those of the text with the word so often. Words of one letter
    are one token here."""
    resolved = engine.resolve(request())
    net, _ = made(None if name == "first" else FACE)
    faces = torch.randn(2, 512, generator=torch.Generator().manual_seed(2))
    shown = [Image.open(folder / f"{one}.png") for one in ("anna", "berta")]
    with torch.no_grad():
        tokens = net.person(ImageEncoder(net.vision, "x").pixels(shown), None if name == "first" else faces)
    count = 2 if name == "first" else 4
    assert tokens.shape == (count, WIDTH)
    with engine.resources.borrow(resolved.model, TEXT) as encoder:
        text, long = f"a d e{MARK} f", f"a d {'e ' * count}f"
        found = encode([(text,)], encoder, "Original", 1, Person(net, tokens, 1.0))[(text,)][text]
        half = encode([(text,)], encoder, "Original", 1, Person(net, tokens, 0.5))[(text,)][text]
        plain = encode([(long,)], encoder, "Original", 1)[(long,)][long]
        without = encode([(text, "a d e f")], encoder, "Original", 1)[(text, "a d e f")]
    expected = plain.tokens.clone()
    with torch.no_grad():
        expected[3 : 3 + count] = net.merged(plain.tokens[None], tokens, torch.arange(3, 3 + count))[0, 3 : 3 + count]
    assert torch.allclose(found.tokens, expected, atol=1e-6)
    assert torch.allclose(half.tokens, (expected + plain.tokens) / 2, atol=1e-6)
    assert found.pooled is not None
    assert plain.pooled is not None
    assert torch.equal(found.pooled, plain.pooled)
    assert torch.equal(without[text].tokens, without["a d e f"].tokens)


def test_a_word_that_has_no_place_is_told(engine: Engine, folder: Path) -> None:
    net, _ = made(None)
    person = Person(net, torch.zeros(1, WIDTH), 1.0)
    resolved = engine.resolve(request())
    far = f"{'a ' * 80}man{MARK}"
    with engine.resources.borrow(resolved.model, TEXT) as encoder:
        for text, why in (
            (f"{MARK} runs", "behind the word"),
            (f"a man{MARK} b{MARK}", "once, behind"),
            (far, "among the first"),
        ):
            with pytest.raises(BadInput, match=why):
                encode([(text,)], encoder, "Original", 1, person)


def test_the_second_version_reads_faces(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AtelierError, match=r"second: the networks that find faces are not there: put .* buffalo_l"):
        engine.resolve(request(f"{folder}/anna.png model=second"))
    pack = folder / "insightface" / "buffalo_l"
    pack.mkdir(parents=True)
    face_support.red_detector(pack / "det.onnx")
    face_support.embedder(pack / "w.onnx")
    pytest.importorskip("onnxruntime", reason=face_support.WHY)
    seen: list[Tensor | None] = []
    person = PhotoMaker.person

    def watched(self: PhotoMaker, shown: Tensor, faces: Tensor | None) -> Tensor:
        seen.append(faces)
        return person(self, shown, faces)

    monkeypatch.setattr(PhotoMaker, "person", watched)
    assert pixels(engine, f"{folder}/anna.png model=second") != pixels(engine)
    ((faces),) = seen
    assert faces is not None
    assert faces.shape == (1, 512)
    with pytest.raises(AtelierError, match="no face is found in it"):
        pixels(engine, f"{folder}/nobody.png model=second")


def test_its_lora_acts_with_it(engine: Engine, folder: Path) -> None:
    width = 64
    tensors = {
        **made(None)[1],
        f"lora_weights.unet.{LAYER}.down.weight": torch.randn(2, width, generator=torch.Generator().manual_seed(1)),
        f"lora_weights.unet.{LAYER}.up.weight": torch.randn(width, 2, generator=torch.Generator().manual_seed(2)),
    }
    save_file(tensors, folder / "photomaker" / "brought.safetensors")
    bare, brought = (pixels(engine, f"{folder}/anna.png model={name}") for name in ("first", "brought"))
    assert bare != brought
    assert pixels(engine, f"{folder}/anna.png model=brought lora=0") == bare


def test_the_infotext_generates_the_same_image_again(engine: Engine, folder: Path) -> None:
    faces = [f"{folder}/{name}.png:0.7 model=first start=0.3" for name in ("anna", "berta")]
    (image,) = engine.generate(request(*faces))
    (same,) = engine.generate(to_request(read(image.infotext)))
    assert same.image.tobytes() == image.image.tobytes()
    assert same.infotext == image.infotext
    resolved = engine.resolve(request(*faces))
    (own,) = resolved.steering
    assert isinstance(own, ResolvedPerson)
    assert (len(own.images), own.start) == (2, 0.3)
    assert Resolved.from_json(resolved.to_json()) == resolved


BAD = {
    "{folder}/anna.png model=first end=0.5": "first: changes the prompt alone: leave out end",
    "{folder}/anna.png model=first pose=a.png blocks=style": "leave out blocks, pose",
    "{folder}/no.png model=first": "no.png",
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_used_is_told_in_one_line(engine: Engine, folder: Path, text: str) -> None:
    with pytest.raises(AtelierError) as caught:
        engine.resolve(request(text.format(folder=folder)))
    assert BAD[text] in str(caught.value)
    assert (caught.value.exit_code, caught.value.field) == (2, "faces")


def test_persons_and_prompts_that_do_not_go_together_are_told(engine: Engine, folder: Path) -> None:
    anna = f"{folder}/anna.png model=first"
    with pytest.raises(AtelierError, match=f"the prompt needs the word {TRIGGER} behind"):
        engine.resolve(request(anna, prompt="a man"))
    with pytest.raises(AtelierError, match="first: reads images of one person: say the same of each"):
        engine.resolve(request(anna, f"{anna} lora=0.5"))
    with pytest.raises(AtelierError, match=r"first\.safetensors: is .*PhotoMaker.*, and embedded is"):
        engine.resolve(request(anna, model="embedded"))
