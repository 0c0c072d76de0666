"""Adapters of Stable Diffusion 3, whose files keep queries, keys and values together, or apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_sd3
from atelier.adapters.read import deltas, matched, open_adapter
from atelier.adapters.targets import targets
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers, write_ldm
from atelier.cli.app import run
from atelier.errors import BadFile

APART = [f"transformer.transformer_blocks.1.attn.to_{letter}" for letter in "qkv"]
TOGETHER = "lora_unet_joint_blocks_1_x_block_attn_qkv"
OURS = [f"blocks.1.image.attn.to_{letter}" for letter in "qkv"]
WIDTH, RANK = 32, 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("sd3") / "sd3.safetensors"
    write_ldm(tiny_sd3.modules(("text", "text2")), path)
    return open_checkpoint(path)


def test_what_is_kept_together_reaches_each_layer(model: Checkpoint, tmp_path: Path):
    torch.manual_seed(0)
    up, down = torch.randn(3 * WIDTH, RANK), torch.randn(RANK, WIDTH)
    bias = torch.randn(3 * WIDTH)
    named = {f"{TOGETHER}.lora_up.weight": up, f"{TOGETHER}.lora_down.weight": down}
    alpha = {f"{TOGETHER}.alpha": torch.tensor(1.5), f"{TOGETHER}.diff_b": bias}
    save_file(named | alpha, tmp_path / "kohya.safetensors")
    found = matched(open_adapter(tmp_path / "kohya.safetensors"), model)
    assert found.unmatched == ()
    made = deltas(found, "transformer")
    assert set(made) == {f"{name}.{kind}" for name in OURS for kind in ("weight", "bias")}
    for number, name in enumerate(OURS):
        rows = slice(number * WIDTH, (number + 1) * WIDTH)
        weight = torch.randn(WIDTH, WIDTH)
        wanted = 1.5 / RANK * up[rows] @ down
        torch.testing.assert_close(made[f"{name}.weight"][0].difference(weight), wanted)
        torch.testing.assert_close(made[f"{name}.bias"][0].difference(torch.zeros(WIDTH)), bias[rows])


def test_lengths_of_rows_are_those_of_each_layer(model: Checkpoint, tmp_path: Path):
    torch.manual_seed(0)
    up, down, lengths = torch.randn(3 * WIDTH, RANK), torch.randn(RANK, WIDTH), torch.rand(3 * WIDTH, 1)
    named = {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": lengths}
    save_file({f"{TOGETHER}.{name}": tensor for name, tensor in named.items()}, tmp_path / "dora.safetensors")
    made = deltas(matched(open_adapter(tmp_path / "dora.safetensors"), model), "transformer")
    weight = torch.randn(WIDTH, WIDTH)
    rows = slice(WIDTH, 2 * WIDTH)
    changed = weight + up[rows] @ down
    wanted = changed * lengths[rows] / changed.norm(dim=1, keepdim=True)
    torch.testing.assert_close(made[f"{OURS[1]}.weight"][0].fold(weight, 1.0), wanted)


def test_what_mixes_rows_of_several_layers_is_refused(model: Checkpoint, tmp_path: Path):
    save_file({f"{TOGETHER}.oft_blocks": torch.zeros(3, WIDTH, WIDTH)}, tmp_path / "oft.safetensors")
    with pytest.raises(BadFile, match="as OFT, which mixes rows that the model keeps apart"):
        matched(open_adapter(tmp_path / "oft.safetensors"), model)


def test_lengths_of_inputs_over_several_layers_are_refused(model: Checkpoint, tmp_path: Path):
    """Each is that of a column through all three, of which a layer knows a third."""
    named = {"lora_up.weight": torch.zeros(3 * WIDTH, RANK), "lora_down.weight": torch.zeros(RANK, WIDTH)}
    tensors = {**named, "dora_scale": torch.ones(1, WIDTH)}
    save_file({f"{TOGETHER}.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "dora.safetensors")
    with pytest.raises(BadFile, match="as DoRA with lengths of inputs, which mixes rows that the model keeps apart"):
        matched(open_adapter(tmp_path / "dora.safetensors"), model)


def test_halves_that_diffusers_keeps_in_the_other_order_change_places(model: Checkpoint, tmp_path: Path):
    names = {
        "transformer.norm_out.linear": True,
        "transformer.base_model.model.norm_out.linear": True,
        "lora_unet_final_layer_adaLN_modulation_1": False,
        "final_layer.adaLN_modulation.1": False,
    }
    up, down = torch.randn(2 * WIDTH, RANK), torch.randn(RANK, WIDTH)
    for name, is_swapped in names.items():
        save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, tmp_path / "end.safetensors")
        made = deltas(matched(open_adapter(tmp_path / "end.safetensors"), model), "transformer")
        found = made["final_modulation.weight"][0].difference(torch.randn(2 * WIDTH, WIDTH))
        wanted = up @ down
        torch.testing.assert_close(found, torch.cat([wanted[WIDTH:], wanted[:WIDTH]]) if is_swapped else wanted)


def test_a_model_without_one_of_its_text_encoders_takes_adapters(model: Checkpoint):
    assert {target.part for several in targets(model).values() for target in several} == {
        "transformer",
        "text",
        "text2",
    }


def test_an_extracted_lora_is_in_kohyas_names_and_reaches_the_tuned_model(model: Checkpoint, tmp_path: Path):
    tuned = tiny_sd3.modules(("text", "text2"))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.networks["transformer"].parameters():  # pyright: ignore[reportAttributeAccessIssue]
            parameter.add_(0.1 * torch.randn(parameter.shape))
    write_diffusers(tuned, tmp_path / "tuned")
    words = [str(model.path), str(tmp_path / "tuned"), str(tmp_path / "lora.safetensors")]
    assert run(["models", "extract-lora", *words, "--rank", "64", "--whole", "--dtype", "fp32"]) == 0
    names = set(load_file(tmp_path / "lora.safetensors"))
    assert {f"{TOGETHER}.lora_up.weight", f"{TOGETHER}.diff_b"} <= names
    assert not any("to_q" in name for name in names)
    found = matched(open_adapter(tmp_path / "lora.safetensors"), model)
    assert found.unmatched == ()
    part = model.family.part("transformer")
    assert part is not None
    plain, wanted = model.tensors(part), open_checkpoint(tmp_path / "tuned").tensors(part)
    for name, (delta, _) in deltas(found, "transformer").items():
        torch.testing.assert_close(delta.fold(plain[name], 1.0), wanted[name], rtol=1e-3, atol=1e-4)
