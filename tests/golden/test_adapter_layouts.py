"""Adapters in the layouts of other programs, key for key as their lists are; nothing of them is ever computed with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_adapter_names import FACTS, shapes, sparse
from torch import Tensor

from atelier.adapters.known import known_for
from atelier.adapters.layouts import Layout
from atelier.adapters.read import open_adapter
from atelier.adapters.respelling import respelled
from atelier.cli.app import run
from atelier.errors import BadInput

pytestmark = pytest.mark.skipif(not FACTS.is_dir(), reason="the lists of published files are not here")
Shapes = Mapping[str, tuple[int, ...]]


def converted(name: str, layout: Layout, folder: Path) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of a published file in another layout."""
    file = open_adapter(sparse(folder / f"{name}.safetensors", shapes(name)))
    made = respelled(file, known_for(file), layout)
    assert made.left_out == ()
    return {key: tuple(tensor.shape) for key, tensor in made.tensors.items()}


def without(listed: Shapes, mark: str) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in listed.items() if mark not in key}


def plus_alpha(listed: Shapes) -> dict[str, tuple[int, ...]]:
    alphas = {key.removesuffix("lora_down.weight") + "alpha": () for key in listed if key.endswith("lora_down.weight")}
    return {**listed, **alphas}


SAME: tuple[tuple[str, Layout, str], ...] = (
    ("lora_diffusers_v1_sd1", "diffusers", "lora_diffusers_v2_sd1"),
    ("lora_diffusers_v1_sd1", "peft", "lora_peft_sd1"),
    ("lora_diffusers_v2_sd1", "peft", "lora_peft_sd1"),
    ("lora_peft_sd1", "diffusers", "lora_diffusers_v2_sd1"),
    ("lora_peft_sd1", "peft", "lora_peft_sd1"),
    ("lora_peft_dora_sd1", "peft", "lora_peft_dora_sd1"),
    ("lora_peft_sd3", "peft", "lora_peft_sd3"),
    ("lora_kohya_sd1", "kohya", "lora_kohya_sd1"),
    ("lora_kohya_sd2", "kohya", "lora_kohya_sd2"),
    ("lora_kohya_sdxl_conv", "kohya", "lora_kohya_sdxl_conv"),
    ("lycoris_sd1_lokr_tucker_f4", "kohya", "lycoris_sd1_lokr_tucker_f4"),
    ("lycoris_sd1_loha_tucker", "kohya", "lycoris_sd1_loha_tucker"),
    ("lycoris_sd1_ia3", "kohya", "lycoris_sd1_ia3"),
    ("lycoris_sdxl_lokr_f8", "kohya", "lycoris_sdxl_lokr_f8"),
)


@pytest.mark.parametrize(("name", "layout", "wanted"), SAME)
def test_one_list_becomes_another(name: str, layout: Layout, wanted: str, tmp_path: Path):
    assert converted(name, layout, tmp_path) == shapes(wanted)


def test_kohyas_names_are_those_of_its_list(tmp_path: Path):
    listed = shapes("lora_kohya_sd1")
    ours = converted("lora_peft_sd1", "kohya", tmp_path)
    assert len(ours) == 3 * (128 + 48)
    assert {key: listed[key] for key in ours} == ours
    assert converted("lora_kohya_sd1_noalpha", "kohya", tmp_path) == plus_alpha(shapes("lora_kohya_sd1_noalpha"))


def test_diffusers_names_of_kohyas_file_are_a_superset_of_its_list(tmp_path: Path):
    wanted_of: Mapping[Layout, str] = {"peft": "lora_peft_sd1", "diffusers": "lora_diffusers_v2_sd1"}
    for layout, wanted in wanted_of.items():
        ours, listed = converted("lora_kohya_sd1", layout, tmp_path), shapes(wanted)
        assert {key: ours[key] for key in listed} == listed
        assert len(ours) == 2 * (192 + 72)


def test_xl_goes_by_the_names_of_single_files_in_kohyas_layout(tmp_path: Path):
    """LCM-LoRA has diffusers' names behind kohya's prefix."""
    listed, ours = shapes("lora_kohya_sdxl_conv"), converted("lcm_lora_sdxl", "kohya", tmp_path)
    assert ours.keys() == {key for key in listed if key.startswith("lora_unet_")}


@pytest.mark.parametrize("name", ["lora_kohya_sd1_conv", "lora_kohya_sdxl_conv", "lora_kohya_sd2", "lora_peft_sd3"])
@pytest.mark.parametrize("layout", ["original", "diffusers", "peft"])
def test_there_and_back_again(name: str, layout: Layout, tmp_path: Path):
    first: Layout = "peft" if name == "lora_peft_sd3" else "kohya"
    save_file({key: torch.zeros(shape) for key, shape in converted(name, layout, tmp_path).items()}, tmp_path / "x.st")
    file = open_adapter(tmp_path / "x.st")
    back = respelled(file, known_for(file), first).tensors
    assert back.keys() == shapes(name).keys()


ORIGINAL = {
    "lora_kohya_sd1": "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_up.weight",
    "lora_kohya_sd2": "text_encoders.clip_h.transformer.text_model.encoder.layers.0.mlp.fc1.lora_down.weight",
    "lora_kohya_sdxl_conv": "text_encoders.clip_g.transformer.text_model.encoder.layers.31.mlp.fc2.lora_down.weight",
    "lora_peft_sd3": "diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_up.weight",
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_comfyui_has_the_names_of_single_files(name: str, tmp_path: Path):
    assert ORIGINAL[name] in converted(name, "original", tmp_path)


def test_what_diffusers_does_not_read_is_refused(tmp_path: Path):
    for name in ("lycoris_sd1_lokr_full", "lycoris_sd1_locon_norm", "lycoris_sd1_ia3"):
        with pytest.raises(BadInput, match="which the layout peft cannot hold: choose kohya or original"):
            converted(name, "peft", tmp_path)
    with pytest.raises(BadInput, match="which the layout diffusers cannot hold"):
        converted("lora_peft_dora_sd1", "diffusers", tmp_path)


QKV = [f"transformer.transformer_blocks.3.attn.to_{letter}" for letter in "qkv"]
FUSED = "lora_unet_joint_blocks_3_x_block_attn_qkv"


def sd3(rank: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(0)
    made: dict[str, Tensor] = {}
    for number, name in enumerate(QKV):
        made[f"{name}.lora_A.weight"] = torch.randn(rank + number, 24)
        made[f"{name}.lora_B.weight"] = torch.randn(24, rank + number)
    return made


def test_queries_keys_and_values_lie_together_in_kohyas_files_of_sd3(tmp_path: Path):
    """Their names come from a model of another width, which nothing minds."""
    before = sd3()
    for name in QKV:
        for half, size in (("A", 1), ("B", 0)):
            key = f"{name}.lora_{half}.weight"
            wide = torch.zeros(*(1536 if axis == size else n for axis, n in enumerate(before[key].shape)))
            wide[tuple(slice(n) for n in before[key].shape)] = before[key]
            before[key] = wide
    save_file(before, tmp_path / "peft.safetensors")
    words = ["models", "convert-lora", str(tmp_path / "peft.safetensors"), str(tmp_path / "kohya.safetensors")]
    assert run([*words, "--to", "kohya"]) == 0
    made = load_file(tmp_path / "kohya.safetensors")
    assert set(made) == {f"{FUSED}.{end}" for end in ("lora_up.weight", "lora_down.weight", "alpha")}
    assert made[f"{FUSED}.lora_up.weight"].shape == (3 * 1536, 4 + 5 + 6)
    whole = made[f"{FUSED}.lora_up.weight"] @ made[f"{FUSED}.lora_down.weight"]
    wanted = torch.cat([before[f"{name}.lora_B.weight"] @ before[f"{name}.lora_A.weight"] for name in QKV])
    torch.testing.assert_close(whole, wanted)
    back = ["models", "convert-lora", str(tmp_path / "kohya.safetensors"), str(tmp_path / "back.safetensors")]
    assert run([*back, "--to", "peft"]) == 0
    again = load_file(tmp_path / "back.safetensors")
    assert again.keys() == before.keys()
    for name in QKV:
        product = again[f"{name}.lora_B.weight"] @ again[f"{name}.lora_A.weight"]
        torch.testing.assert_close(product, before[f"{name}.lora_B.weight"] @ before[f"{name}.lora_A.weight"])


def test_an_alpha_goes_into_a_factor_where_the_layout_has_none(tmp_path: Path):
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"
    torch.manual_seed(0)
    tensors = {
        f"{name}.lora_up.weight": torch.randn(1280, 4),
        f"{name}.lora_down.weight": torch.randn(4, 1280),
        f"{name}.alpha": torch.tensor(3.0),
    }
    save_file(tensors, tmp_path / "kohya.safetensors")
    words = ["models", "convert-lora", str(tmp_path / "kohya.safetensors"), str(tmp_path / "peft.safetensors")]
    assert run([*words, "--to", "peft"]) == 0
    made = load_file(tmp_path / "peft.safetensors")
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k"
    assert torch.equal(made[f"{path}.lora_A.weight"], tensors[f"{name}.lora_down.weight"])
    assert torch.equal(made[f"{path}.lora_B.weight"], 0.75 * tensors[f"{name}.lora_up.weight"])
