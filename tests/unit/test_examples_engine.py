"""An image that a model looks at while it denoises another, on a tiny random model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import tiny_sd
from atelier.adapters.port.example import Bank, looking, remembering
from atelier.checkpoints.write import write_diffusers
from atelier.errors import BadInput
from atelier.models.unet import UNet
from atelier.nn.attention import Attention
from atelier.nn.ports import Conditioning, Ports
from atelier.request.infotext import read, to_request
from atelier.request.model import Request
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache

KEYS = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)
BASE = {"prompt": "a red cat", "model": "tiny", "steps": 4, "seed": 7, "sampler": "Euler", "width": 64, "height": 64}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "example.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return Engine(CPU, Library((tiny_folder.parent,)), HashCache(), version="1", budget=2**30)


def request(image: Path, more: str = "", **fields: object) -> Request:
    return request_of({**BASE, "references": (f"{image} method=example {more}",), **fields})


def pixels(engine: Engine, made: Request) -> bytes:
    return engine.generate(made)[0].image.tobytes()


def test_it_attends_to_both_as_one() -> None:
    """The softmax over the positions of both, written out; a share of it, and none."""
    torch.manual_seed(1)
    layer = Attention(8, 2, path="x")
    own, other = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    bank: Bank = {}
    with torch.no_grad():
        plain = layer(own)
        assert torch.equal(layer(other, ports=remembering(["x"], bank)), layer(other))
        found = layer(own, ports=looking(bank, torch.tensor([1.0, 0.25])))
        sources = torch.cat([own, other], dim=1)
        heads = [
            own_part.reshape(2, -1, 2, 4).transpose(1, 2)
            for own_part in (layer.to_q(own), layer.to_k(sources), layer.to_v(sources))
        ]
        query, key, value = heads
        joined = ((query @ key.transpose(-1, -2) / 2).softmax(-1) @ value).transpose(1, 2).reshape(2, 5, 8)
        whole = layer.to_out(joined)
    assert torch.allclose(found[0], whole[0], atol=1e-6)
    assert torch.allclose(found[1], plain[1] + 0.25 * (whole[1] - plain[1]), atol=1e-6)


def test_the_network_is_shown_the_image_at_the_same_level_of_noise(
    engine: Engine, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each call that counts, one that remembers; at the last level next to no noise is left."""
    seen: list[tuple[Tensor, Tensor, Ports]] = []
    forward = UNet.forward

    def watched(self: UNet, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports) -> Tensor:
        seen.append((x, t, ports))
        return forward(self, x, t, cond, ports)

    monkeypatch.setattr(UNet, "forward", watched)
    engine.generate(request(image, "start=0.25"))
    assert len(seen) == 1 + 3 * 2
    for (shown, at, _), (x, t, _) in zip(seen[1::2], seen[2::2], strict=True):
        assert shown.shape == x.shape
        assert torch.equal(at, t)
        assert torch.equal(shown[0], shown[1])
        assert not torch.allclose(shown, x, atol=0.1)
    first, last = seen[1][0][0], seen[-2][0][0]
    assert float(first.std()) == pytest.approx(1, abs=0.25)
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), last.flatten()]))[0, 1])) < 0.9


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a red cat<lora:late:1:start=0.5>"},
        {"prompt": "a cat", "regions": ("box=0,0,0.5,1: a red cat<lora:late>", "box=0.5,0,1,1: a dog")},
    ],
    ids=["later", "region"],
)
def test_the_network_that_acts_is_the_one_that_looks(
    tiny_folder: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]
) -> None:
    """With a LoRA that begins later, and with one of a region."""
    (tmp_path / "tiny").symlink_to(tiny_folder)
    (tmp_path / "Lora").mkdir()
    random = torch.Generator().manual_seed(4)
    lora = {f"{KEYS}.lora_{side}.weight": torch.randn(32, 32, generator=random) for side in ("down", "up")}
    save_file(lora, tmp_path / "Lora" / "late.safetensors")
    own = Engine(CPU, Library((tmp_path,)), HashCache(), version="1", budget=2**30)
    seen: list[Tensor] = []
    forward = UNet.forward

    def watched(self: UNet, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports) -> Tensor:
        seen.append(self.get_parameter("down.0.attentions.0.blocks.0.attn2.to_k.weight").clone())
        return forward(self, x, t, cond, ports)

    monkeypatch.setattr(UNet, "forward", watched)
    own.generate(request(image, **fields))
    assert all(torch.equal(looks, acts) for looks, acts in zip(seen[::2], seen[1::2], strict=True))
    assert any(not torch.equal(other, seen[0]) for other in seen)


def test_its_weight_and_fidelity_matter(engine: Engine, image: Path) -> None:
    plain = pixels(engine, request_of(BASE))
    ways = ("", "weight=0.5", "fidelity=0", "fidelity=1", "end=0.5")
    made = {way: pixels(engine, request(image, way)) for way in ways}
    assert len({*made.values(), plain}) == len(ways) + 1
    assert pixels(engine, request(image, "weight=0")) == plain


def test_fidelity_leaves_negative_prompts_alone(engine: Engine, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[list[float]] = []

    def watched(bank: Bank, own: Tensor) -> Ports:
        shares.append(own.tolist())
        return looking(bank, own)

    monkeypatch.setattr("atelier.pipeline.steers.looking", watched)
    engine.generate(request(image, "weight=0.8 fidelity=0.75", steps=1))
    assert shares == [[pytest.approx(0.2), pytest.approx(0.8)]]


@pytest.mark.parametrize(("fidelity", "second"), [(0.5, 1.0), (1, 0.0)])
def test_in_a_second_pass_negative_prompts_look_too(
    engine: Engine, image: Path, monkeypatch: pytest.MonkeyPatch, fidelity: float, second: float
) -> None:
    """A1111's rule, but where the image is to win."""
    shares: list[float] = []
    monkeypatch.setattr(
        "atelier.pipeline.steers.looking", lambda bank, own: shares.append(float(own[0])) or looking(bank, own)
    )
    fields = {"hires_upscale": 2, "hires_upscaler": "Latent", "denoising_strength": 0.5, "hires_steps": 2}
    engine.generate(request(image, f"fidelity={fidelity}", steps=1, **fields))
    assert shares[0] == 1 - fidelity
    assert shares[-1] == second


def test_of_xl_fidelity_counts_by_its_third_power(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_diffusers(tiny_sd.sdxl(), tmp_path / "xl")
    shares: list[float] = []
    monkeypatch.setattr(
        "atelier.pipeline.steers.looking", lambda bank, own: shares.append(float(own[0])) or looking(bank, own)
    )
    own = Engine(CPU, Library((tmp_path,)), HashCache(), version="1", budget=2**30)
    own.generate(request(image, "fidelity=0.5", steps=1, model="xl"))
    assert shares == [0.875]


def test_images_of_a_batch_see_the_same_noise_as_alone(engine: Engine, image: Path) -> None:
    both = engine.generate(request(image, batch_size=2, seed=2**64 - 1))
    alone = engine.generate(request(image, batch_count=2, seed=2**64 - 1))
    for one, other in zip(both, alone, strict=True):
        apart = np.abs(np.asarray(one.image, np.int16) - np.asarray(other.image, np.int16))
        assert int(apart.max()) <= 2


def test_the_infotext_generates_the_same_image_again(engine: Engine, image: Path) -> None:
    (own,) = engine.generate(request(image, "weight=0.7 fidelity=0.3 start=0.1"))
    (same,) = engine.generate(to_request(read(own.infotext)))
    assert same.image.tobytes() == own.image.tobytes()
    assert same.infotext == own.infotext


def test_what_cannot_be_is_told(engine: Engine, image: Path) -> None:
    for more, why in {
        "model=x": "model has no effect with method=example",
        "blocks=style": "blocks has no effect with method=example",
        "weight=2": "weight 2: of an example it is at most 1",
        "fidelity=2": "fidelity '2': must be a number from 0 to 1",
    }.items():
        with pytest.raises(BadInput, match=why):
            request(image, more)
    with pytest.raises(BadInput, match="fidelity has no effect with method=network"):
        request_of({**BASE, "references": (f"{image} fidelity=1",)})
