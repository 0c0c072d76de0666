"""An image as a prompt, on the embedded model, whose own encoder sees it: a plain IP-Adapter with drawn weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import AtelierError
from atelier.families.parts import VISION
from atelier.models.unet import UNet
from atelier.nn.ports import Ports
from atelier.request.infotext import read, to_request
from atelier.request.model import Request
from atelier.request.resolved import Resolved
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)
CONTEXT, TOKENS = 160, 4
WIDTHS = (128, 256, 256, 256, 128, 128, 256)
"""Of the embedded model's attentions to the text: down, up, middle, counted by hand."""


def adapter(path: Path, features: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) * shape[-1] ** -0.5

    tensors = {
        "image_proj.proj.weight": drawn(TOKENS * CONTEXT, features),
        "image_proj.proj.bias": torch.zeros(TOKENS * CONTEXT),
        "image_proj.norm.weight": torch.ones(CONTEXT),
        "image_proj.norm.bias": torch.zeros(CONTEXT),
    }
    for number, width in enumerate(WIDTHS):
        for kind in "kv":
            tensors[f"ip_adapter.{2 * number + 1}.to_{kind}_ip.weight"] = drawn(width, CONTEXT)
    save_file(tensors, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "ipadapter").mkdir()
    features = open_checkpoint(embedded_folder()).spec(VISION).projection
    assert features is not None
    adapter(folder / "ipadapter" / "own.safetensors", features, 1)
    adapter(folder / "ipadapter" / "wide.safetensors", 1024, 2)
    for name, colour in {"red": (220, 30, 40), "blue": (30, 60, 220)}.items():
        Image.new("RGB", (96, 64), colour).save(folder / f"{name}.png")
    left = Image.new("L", (128, 128))
    left.paste(255, (0, 0, 64, 128))
    left.save(folder / "left.png")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine(CPU, Library((folder,)), HashCache(), version="1", budget=2**30)


def request(**fields: object) -> Request:
    return request_of({"prompt": "a red apple", "steps": 2, "seed": 7, "sampler": "Euler"} | fields)


def pixels(engine: Engine, *references: str) -> bytes:
    (image,) = engine.generate(request(references=references))
    return image.image.tobytes()


def test_the_image_and_its_weight_matter(engine: Engine, folder: Path) -> None:
    plain, red = pixels(engine), pixels(engine, f"{folder}/red.png model=own")
    assert red != plain
    assert pixels(engine, f"{folder}/red.png:0 model=own") == plain
    assert pixels(engine, f"{folder}/blue.png model=own") not in {plain, red}
    assert pixels(engine, f"{folder}/red.png:0.5 model=own") not in {plain, red}


def test_without_a_name_the_one_for_the_model_is_taken(engine: Engine, folder: Path) -> None:
    resolved = engine.resolve(request(references=(f"{folder}/red.png",)))
    (own,) = resolved.steering
    assert (own.network.name, own.kind) == ("own", "reference")


def test_negative_prompts_see_no_image(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first attention gets differs between two images in the prompt's row alone."""
    seen: list[Tensor] = []
    forward = UNet.forward

    def watched(self: UNet, x: Tensor, t: Tensor, cond: object, ports: Ports) -> Tensor:
        path = "down.1.attentions.0.blocks.0.attn2"
        patch = ports.attention[path]

        def look(*given: object) -> Tensor:
            seen.append(patch(*given))  # pyright: ignore[reportArgumentType]
            return seen[-1]

        return forward(self, x, t, cond, Ports(attention={**ports.attention, path: look}))  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(UNet, "forward", watched)
    for name in ("red", "blue"):
        engine.generate(request(steps=1, references=(f"{folder}/{name}.png model=own",)))
    red, blue = seen
    assert torch.equal(red[0], blue[0])
    assert not torch.allclose(red[1], blue[1], atol=1e-3)


def test_a_mask_leaves_the_rest_of_the_first_layer_alone(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, masked = pixels(engine), pixels(engine, f"{folder}/red.png model=own mask={folder}/left.png")
    assert masked not in {plain, pixels(engine, f"{folder}/red.png model=own")}


def test_blocks_that_are_left_out_see_nothing(engine: Engine, folder: Path) -> None:
    plain, red = pixels(engine), pixels(engine, f"{folder}/red.png model=own")
    assert pixels(engine, f'{folder}/red.png model=own blocks="=0"') == plain
    assert pixels(engine, f'{folder}/red.png model=own blocks="up=0,down=0"') not in {plain, red}


def test_several_images_are_one_prompt(engine: Engine, folder: Path) -> None:
    """Their tokens lie behind each other: twice the same image says what it says once, where two references add up."""

    def made(*texts: str) -> np.ndarray:
        (image,) = engine.generate(request(references=[f"{folder}/{text}" for text in texts]))
        return np.asarray(image.image, np.int16)

    red, twice = made("red.png model=own"), made("red.png model=own", "red.png with=previous")
    assert abs(twice - red).max() <= 2
    assert abs(made("red.png model=own", "red.png model=own") - red).max() > 8
    alone, both = made("red.png:2 model=own"), made("red.png:2 model=own", "blue.png with=previous")
    assert abs(both - alone).max() > 8
    assert abs(made("blue.png:2 model=own", "red.png with=previous") - both).max() <= 2


def test_the_infotext_of_several_images_generates_the_same_image_again(engine: Engine, folder: Path) -> None:
    wanted = request(references=(f"{folder}/red.png:0.7 model=own", f"{folder}/blue.png with=previous"))
    resolved = engine.resolve(wanted)
    assert Resolved.from_json(resolved.to_json()) == resolved
    (image,) = engine.generate(wanted)
    (same,) = engine.generate(to_request(read(image.infotext)))
    assert same.image.tobytes() == image.image.tobytes()


def test_one_prompt_with_nothing_before_it_is_told(engine: Engine, folder: Path) -> None:
    with pytest.raises(AtelierError, match="with=previous: there is none before it") as caught:
        engine.resolve(request(references=(f"{folder}/red.png with=previous",)))
    assert (caught.value.exit_code, caught.value.field) == (2, "references")
    example = (f"{folder}/red.png method=example", f"{folder}/blue.png with=previous")
    with pytest.raises(AtelierError, match="with=previous: an example is one image"):
        engine.resolve(request(references=example))


def test_the_infotext_generates_the_same_image_again(engine: Engine, folder: Path) -> None:
    text = f'{folder}/red.png:0.7 model=own end=0.5 blocks="up.0=0.5"'
    (image,) = engine.generate(request(references=(text,)))
    (same,) = engine.generate(to_request(read(image.infotext)))
    assert same.image.tobytes() == image.image.tobytes()
    assert same.infotext == image.infotext


BAD = {
    "{folder}/red.png model=wide": "needs an encoder of images whose embedding has 1024 numbers (CLIP ViT-H)",
    "{folder}/red.png model=own blocks=stile": "blocks 'stile': choose",
    "{folder}/no.png model=own": "no.png",
    "{folder}/red.png model=none": "unknown control 'none'",
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_used_is_told_in_one_line(engine: Engine, folder: Path, text: str) -> None:
    with pytest.raises(AtelierError) as caught:
        engine.resolve(request(references=(text.format(folder=folder),)))
    assert BAD[text] in str(caught.value)
    assert (caught.value.exit_code, caught.value.field) == (2, "references")


def test_a_control_is_no_reference(engine: Engine, folder: Path) -> None:
    with pytest.raises(AtelierError, match=r"own\.safetensors: reads an image as a prompt: give it as --reference"):
        engine.resolve(request(controls=(f"canny:{folder}/red.png model=own annotator=none",)))
