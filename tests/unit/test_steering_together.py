"""Two controls, an image prompt, a LoRA and a second pass in one request, on the embedded model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor

from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.families.parts import VISION
from atelier.request.infotext import read, to_request
from atelier.request.model import Request
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache
from control_support import written_for_embedded

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)
CONTEXT, TOKENS = 160, 4
WIDTHS = (128, 256, 256, 256, 128, 128, 256)
"""Of the embedded model's attentions to the text: down, up, middle, counted by hand."""


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * shape[-1] ** -0.5


def image_prompt(path: Path) -> None:
    features = open_checkpoint(embedded_folder()).spec(VISION).projection
    assert features is not None
    tensors = {
        "image_proj.proj.weight": drawn(1, TOKENS * CONTEXT, features),
        "image_proj.proj.bias": torch.zeros(TOKENS * CONTEXT),
        "image_proj.norm.weight": torch.ones(CONTEXT),
        "image_proj.norm.bias": torch.zeros(CONTEXT),
    }
    for number, width in enumerate(WIDTHS):
        tensors |= {f"ip_adapter.{2 * number + 1}.to_{kind}_ip.weight": drawn(2, width, CONTEXT) for kind in "kv"}
    save_file(tensors, path)


def lora(path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {"lora_down.weight": drawn(3, 4, 256), "lora_up.weight": drawn(4, 256, 4) * 8}
    save_file({f"{name}.{slot}": tensor for slot, tensor in tensors.items()}, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("ControlNet", "ipadapter", "Lora"):
        (folder / name).mkdir()
    written_for_embedded(folder / "ControlNet" / "a_canny.safetensors", 1)
    written_for_embedded(folder / "ControlNet" / "a_depth.safetensors", 2)
    image_prompt(folder / "ipadapter" / "prompt.safetensors")
    lora(folder / "Lora" / "oil.safetensors")
    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).ellipse((30, 20, 100, 110), "red")
    image.save(folder / "shape.png")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine(CPU, Library((folder,)), HashCache(), version="1", budget=2**30)


def asked(folder: Path, without: str = "") -> Request:
    shape = folder / "shape.png"
    controls = {"canny": f"canny:{shape}:0.6", "depth": f"depth:{shape}:0.4 annotator=none end=0.5"}
    fields: dict[str, object] = {
        "prompt": "a red apple" if without == "lora" else "a red apple <lora:oil:1>",
        "seed": 7,
        "steps": 2,
        "sampler": "Euler",
        "controls": tuple(text for name, text in controls.items() if name != without),
        "references": () if without == "reference" else (f"{shape}:0.5",),
    }
    if without != "hires":
        fields |= {"hires_upscale": 1.5, "hires_steps": 2, "denoising_strength": 0.6}
    return request_of(fields)


def test_all_of_them_act_in_one_request(engine: Engine, folder: Path) -> None:
    """Each is missed where it is left out, and the infotext makes the image again."""
    (whole,) = engine.generate(asked(folder))
    assert whole.image.size == (192, 192)
    for name in ("canny", "depth", "reference", "lora", "hires"):
        (other,) = engine.generate(asked(folder, name))
        assert other.image.tobytes() != whole.image.tobytes(), name
    (again,) = engine.generate(to_request(read(whole.infotext)))
    assert again.image.tobytes() == whole.image.tobytes()
