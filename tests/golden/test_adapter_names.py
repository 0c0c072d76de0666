"""The names of published weight adapters, against the layers of a model at its true size; files without content."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from atelier.adapters.read import Match, matched, open_adapter
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import BadFile
from facts import FACTS

KEYS = FACTS / "keys"
pytestmark = pytest.mark.skipif(not KEYS.is_dir(), reason="the lists of published files are not here")
RANK = 4

SD1: Mapping[str, tuple[str, int, int]] = {
    "lora_kohya_sd1": ("LoRA", 192, 72),
    "lora_kohya_sd1_noalpha": ("LoRA", 192, 72),
    "lora_kohya_sd1_conv": ("LoRA", 278, 72),
    "lora_diffusers_v1_sd1": ("LoRA", 128, 48),
    "lora_diffusers_v2_sd1": ("LoRA", 128, 48),
    "lora_peft_sd1": ("LoRA", 128, 48),
    "lora_peft_dora_sd1": ("LoRA", 128, 0),
    "lcm_lora_sd15": ("LoRA", 278, 0),
    "lycoris_sd1_dora": ("LoRA", 282, 72),
    "lycoris_sd1_dylora": ("LoRA", 282, 72),
    "lycoris_sd1_glora": ("GLoRA", 282, 72),
    "lycoris_sd1_ia3": ("IA3", 80, 36),
    "lycoris_sd1_locon_norm": ("LoRA", 390, 72),
    "lycoris_sd1_locon_tucker": ("LoRA", 282, 72),
    "lycoris_sd1_loha_tucker": ("LoHa", 282, 72),
    "lycoris_sd1_lokr_both": ("LoKr", 282, 72),
    "lycoris_sd1_lokr_full": ("LoKr", 282, 72),
    "lycoris_sd1_lokr_tucker_f4": ("LoKr", 282, 72),
}
"""List -> its kind, and how many layers of the U-Net and of the text encoder it has."""
FOREIGN: Mapping[str, str] = {
    "lora_kohya_sd2": "is for Stable Diffusion 2.x",
    "lora_kohya_sdxl_conv": "is for Stable Diffusion XL",
    "lcm_lora_sdxl": "is for Stable Diffusion XL",
    "lycoris_sdxl_loha": "is for Stable Diffusion XL",
    "lycoris_sdxl_lokr_f8": "is for Stable Diffusion XL",
    "lora_peft_sd3": "is for Stable Diffusion 3",
    "other_invoke_flux_lora_kohya_format": "is for Flux",
    "other_invoke_flux_lora_diffusers_format": "is for Flux",
}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    found = json.loads((KEYS / f"{name}.json").read_text())
    tensors = found.get("tensors") or found["keys"]
    listed = {key: shape if isinstance(shape, list) else shape[0] for key, shape in tensors.items()}
    return {key: tuple(RANK if n == -1 else n for n in shape or ()) for key, shape in listed.items()}


def sparse(path: Path, tensors: Mapping[str, tuple[int, ...]], one: Callable[[str], bool] = lambda _: False) -> Path:
    """A file of zeros that takes no room; the single numbers that `one` chooses are 1."""
    header: dict[str, object] = {}
    at, ones = 0, list[int]()
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        ones += [at] if one(name) else []
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        file.truncate(start + at)
        for place in ones:
            file.seek(start + place)
            file.write(b"\x00\x3c")
    return path


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(sparse(tmp_path_factory.mktemp("model") / "sd1.safetensors", shapes("sd1_ldm_required")))


def placed(name: str, model: Checkpoint, folder: Path) -> Match:
    def is_of_input(key: str) -> bool:
        return key.endswith(".on_input") and ("fc2" in key or "ff_net_2" in key)

    return matched(open_adapter(sparse(folder / f"{name}.safetensors", shapes(name), is_of_input)), model)


@pytest.mark.parametrize("name", SD1)
def test_every_tensor_finds_its_layer_and_fits(name: str, sd1: Checkpoint, tmp_path: Path):
    kind, unet, text = SD1[name]
    found = placed(name, sd1, tmp_path)
    assert found.unmatched == ()
    assert found.file.kind_names[0] == kind
    parts = Counter(target.part for (target,) in found.placed.values())
    assert (parts["unet"], parts["text"]) == (unet, text)
    assert len({(target.part, target.module) for (target,) in found.placed.values()}) == unet + text, "each layer once"


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_for_another_family_says_which(name: str, sd1: Checkpoint, tmp_path: Path):
    with pytest.raises(BadFile) as caught:
        placed(name, sd1, tmp_path)
    assert FOREIGN[name] in str(caught.value)
    assert "\n" not in str(caught.value)


OUT = "down.1.attentions.0.blocks.0.attn1.to_out"
NAMES = {
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0": OUT,
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0": OUT,
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0": OUT,
    "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0": OUT,
    "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0": OUT,
    "input_blocks.4.1.transformer_blocks.0.attn1.to_out.0": OUT,
    "unet.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0": OUT,
    "lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0": OUT,
    "lycoris_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0": OUT,
    "lycoris_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0": OUT,
    "lycoris_te_text_model_encoder_layers_11_self_attn_out_proj": "layers.11.attn.to_out",
    "lycoris_te1_text_model_encoder_layers_11_self_attn_out_proj": "layers.11.attn.to_out",
    "base_model.model.text_model.encoder.layers.11.self_attn.out_proj": "layers.11.attn.to_out",
    "oft_unet_mid_block_attentions_0_proj_in": "middle.attention.proj_in",
    "lora_unet_output_blocks_2_1_conv": "up.0.upsample.conv",
    "base_model.model.up_blocks.3.resnets.2.conv_shortcut": "up.3.resnets.2.shortcut",
    "lora_unet_time_embedding_linear_2": "time_embedding.linear2",
    "lora_te1_text_model_encoder_layers_11_self_attn_out_proj": "layers.11.attn.to_out",
    "text_encoder.text_model.encoder.layers.11.self_attn.to_out": "layers.11.attn.to_out",
    "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc2": "layers.0.mlp.fc2",
}


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_found_by_the_names_of_every_program(name: str, sd1: Checkpoint):
    from atelier.adapters.targets import targets

    assert [target.module for target in targets(sd1)[name]] == [NAMES[name]]


def test_blocks_are_counted_as_in_single_files(sd1: Checkpoint):
    from atelier.adapters.targets import targets

    known = targets(sd1)
    blocks = {
        "lora_unet_down_blocks_0_attentions_0_proj_in": "IN01",
        "lora_unet_down_blocks_2_attentions_1_proj_in": "IN08",
        "lora_unet_down_blocks_1_downsamplers_0_conv": "IN06",
        "lora_unet_mid_block_attentions_0_proj_in": "MID",
        "lora_unet_up_blocks_1_attentions_0_proj_in": "OUT03",
        "lora_unet_up_blocks_3_attentions_2_proj_in": "OUT11",
        "lora_unet_conv_in": "IN00",
        "lora_unet_conv_out": "BASE",
        "lora_te_text_model_encoder_layers_0_mlp_fc1": "BASE",
    }
    assert {name: known[name][0].block for name in blocks} == blocks
