"""LoRAs that prompts name, on very small models of Stable Diffusion XL, its refiner and 2.x: each reaches its own text
encoder and the denoiser, and the image is that of weights that were added by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny_sd
from atelier.checkpoints.write import Modules, write_diffusers
from atelier.errors import BadInput
from atelier.runtime.engine import Engine
from pipeline_support import PLENTY, engine_on, request

RANK, STRENGTH = 4, 0.8
L, G = tiny_sd.L, tiny_sd.G
MODELS: Mapping[str, Callable[[], Modules]] = {
    "sdxl": tiny_sd.sdxl,
    "sdxl-refiner": tiny_sd.refiner,
    "sd2": tiny_sd.sd2,
}
XL_UNET = "lora_unet_input_blocks_3_1_transformer_blocks_1_attn2_to_k"
"""kohya's scripts call XL's layers as the single file does, and 2.x's as diffusers does."""
SD2_UNET = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
FC1 = "_text_model_encoder_layers_0_mlp_fc1"
FILES: Mapping[tuple[str, str], tuple[str, tuple[int, int], str]] = {
    ("sdxl", "unet"): (XL_UNET, (64, L + G), "down.1.attentions.0.blocks.1.attn2.to_k"),
    ("sdxl", "text"): (f"lora_te1{FC1}", (64, L), "layers.0.mlp.fc1"),
    ("sdxl", "text2"): (f"lora_te2{FC1}", (64, G), "layers.0.mlp.fc1"),
    ("sdxl-refiner", "unet"): (XL_UNET, (64, G), "down.1.attentions.0.blocks.1.attn2.to_k"),
    ("sdxl-refiner", "text2"): (f"lora_te2{FC1}", (64, G), "layers.0.mlp.fc1"),
    ("sd2", "unet"): (SD2_UNET, (64, G), "down.1.attentions.0.blocks.0.attn2.to_k"),
    ("sd2", "text"): (f"lora_te{FC1}", (64, G), "layers.0.mlp.fc1"),
}
"""(model, part) -> the name of a layer in kohya's files, its size, and where it is in our network."""


def tensors(layer: str, size: tuple[int, int]) -> dict[str, Tensor]:
    generator, (out, into) = torch.Generator().manual_seed(len(layer)), size
    return {
        f"{layer}.lora_down.weight": torch.randn(RANK, into, generator=generator),
        f"{layer}.lora_up.weight": torch.randn(out, RANK, generator=generator),
        f"{layer}.alpha": torch.tensor(RANK / 2),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "Lora").mkdir()
    for name, make in MODELS.items():
        write_diffusers(make(), folder / name)
        whole = dict[str, Tensor]()
        for (model, part), (layer, size, _) in FILES.items():
            if model == name:
                whole |= tensors(layer, size)
                save_file(tensors(layer, size), folder / "Lora" / f"{name}-{part}.safetensors")
        save_file(whole, folder / "Lora" / f"{name}-all.safetensors")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return engine_on(folder / "sdxl", budget=PLENTY)


def image(engine: Engine, model: str, tag: str) -> bytes:
    asked = request(model=model, prompt=f"a red cat{tag}", steps=1, width=64, height=64)
    return engine.generate(asked)[0].image.tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_the_image_is_that_of_a_model_whose_weights_are_the_sum(
    engine: Engine, folder: Path, tmp_path: Path, name: str
) -> None:
    """W + strength * alpha / r * up @ down in every part, written into the weights of a copy by hand."""
    made, file = MODELS[name](), load_file(folder / "Lora" / f"{name}-all.safetensors")
    with torch.no_grad():
        for (model, part), (layer, _, path) in FILES.items():
            if model == name:
                weight = made.networks[part].get_submodule(path).weight
                assert isinstance(weight, Tensor)
                weight.add_(STRENGTH / 2 * file[f"{layer}.lora_up.weight"] @ file[f"{layer}.lora_down.weight"])
    write_diffusers(made, tmp_path / name)
    by_hand = image(engine_on(tmp_path / name), name, "")
    ours, plain = image(engine, name, f"<lora:{name}-all:{STRENGTH}>"), image(engine, name, "")
    far = np.abs(np.frombuffer(by_hand, np.uint8).astype(int) - np.frombuffer(ours, np.uint8))
    assert far.max() <= 1
    assert by_hand != plain
    assert image(engine, name, "") == plain


@pytest.mark.parametrize(("name", "part"), FILES)
def test_each_part_is_reached_by_its_own_name(engine: Engine, name: str, part: str) -> None:
    """The strength of the text encoders acts on every one of them, and on nothing else."""
    plain, own = image(engine, name, ""), image(engine, name, f"<lora:{name}-{part}>")
    assert own != plain
    is_text = part != "unet"
    assert image(engine, name, f"<lora:{name}-{part}:te=0:unet=1>") == (plain if is_text else own)
    assert image(engine, name, f"<lora:{name}-{part}:te=1:unet=0>") == (own if is_text else plain)


def test_a_file_for_another_model_is_one_line(engine: Engine) -> None:
    for model, other in (("sd2", "sdxl"), ("sdxl-refiner", "sdxl"), ("sdxl", "sd2")):
        with pytest.raises(BadInput, match=r"^prompt: .*generate without it with --lenient"):
            image(engine, model, f"<lora:{other}-all>")
