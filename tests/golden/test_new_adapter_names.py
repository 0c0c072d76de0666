"""A new adapter has the layers, names and shapes that the scripts of others give theirs, key for key."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from atelier.adapters.delta import Size
from atelier.adapters.growing import Growing, Growth, Place, places
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.train.teaching.recipe import Targets
from key_lists import key_list, sparse

MODELS = {"sd1": "sd1_ldm_required", "sd2": "sd2_ldm", "sdxl": "sdxl_base_sgm", "sd3": "sd3_medium_comfy"}
KOHYA_KERNELS = (r"attentions\.\d+\.|resnets\.|samplers\.",)
"""kohya's scripts with conv_dim: the modules inside transformers, residual blocks, and those that change the size."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("models")
    lists = {name: key_list(own) for name, own in MODELS.items()}
    return {name: open_checkpoint(sparse(folder / f"{name}.safetensors", own)) for name, own in lists.items()}


def chosen(model: Checkpoint, targets: Targets) -> list[Place]:
    """What a recipe with these targets trains."""
    family = model.family
    denoiser = family.part(family.denoiser)
    assert denoiser is not None
    found = list(places(model, denoiser, targets.patterns))
    for tower in model.towers if targets.text else ():
        found += places(model, tower.part, targets.text_layers)
    return found


def shapes(model: Checkpoint, targets: Targets, growth: Growth) -> dict[str, tuple[int, ...]]:
    """The file of a new adapter."""
    own = chosen(model, targets)
    weights = {(p.part, p.module): torch.empty(p.shape, device="meta") for p in own} if growth.lengths else {}
    made = Growing(own, growth, torch.Generator(), weights)
    return {name: tuple(tensor.shape) for name, tensor in made.file({}).items()}


def listed(name: str, rank: int) -> dict[str, tuple[int, ...]]:
    """A list, with `rank` where it has a rank of anybody's choice."""
    return {key: tuple(rank if n == -1 else n for n in shape) for key, shape in key_list(name).items()}


LORA = Growth("LoRA", Size(16))
WITH_KERNELS = Growth("LoRA", Size(16), Size(8))
TRANSFORMER, KERNELS = Targets(layers="transformer", text=True), Targets(layers=KOHYA_KERNELS, text=True)
EVERYTHING = Targets(layers="all", text=True)


@pytest.mark.parametrize(
    ("name", "model", "targets", "growth"),
    [
        ("lora_kohya_sd1", "sd1", TRANSFORMER, LORA),
        ("lora_kohya_sd2", "sd2", TRANSFORMER, LORA),
        ("lora_kohya_sd1_conv", "sd1", KERNELS, WITH_KERNELS),
        ("lora_kohya_sdxl_conv", "sdxl", KERNELS, WITH_KERNELS),
        ("lycoris_sdxl_loha", "sdxl", KERNELS, Growth("LoHa", Size(16), Size(8))),
        ("lycoris_sdxl_lokr_f8", "sdxl", KERNELS, Growth("LoKr", Size(16, factor=8), Size(8, factor=8))),
        ("lycoris_sd1_lokr_full", "sd1", EVERYTHING, Growth("LoKr", Size(640), Size(320))),
    ],
)
def test_it_is_the_list_key_for_key(
    name: str, model: str, targets: Targets, growth: Growth, models: Mapping[str, Checkpoint]
) -> None:
    assert shapes(models[model], targets, growth) == listed(name, growth.size.rank)


@pytest.mark.parametrize(
    ("name", "growth", "narrow"),
    [
        ("lycoris_sd1_dora", Growth("LoRA", Size(16), Size(8), lengths=True), {"conv_out"}),
        ("lycoris_sd1_glora", Growth("GLoRA", Size(16), Size(8)), {"conv_in", "conv_out"}),
    ],
)
def test_of_all_layers_only_the_outer_ones_have_a_rank_that_they_can_use(
    name: str, growth: Growth, narrow: set[str], models: Mapping[str, Checkpoint]
) -> None:
    """LyCORIS gives a layer of four channels rank 8, of which four say nothing."""
    wanted = listed(name, 16)
    found = shapes(models["sd1"], EVERYTHING, growth)
    assert found.keys() == wanted.keys()
    other = {key for key, shape in found.items() if shape != wanted[key]}
    assert {key.removeprefix("lora_unet_").partition(".")[0] for key in other} == narrow
    assert all(tuple(4 if n == 8 else n for n in wanted[key]) == found[key] for key in other)


COUNTS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "sd1": {"attention": (128, 128), "cross-attention": (32, 32), "transformer": (192, 192), "all": (230, 282)},
    "sd2": {"attention": (128, 128), "cross-attention": (32, 32), "transformer": (192, 192), "all": (230, 282)},
    "sdxl": {"attention": (560, 560), "cross-attention": (140, 140), "transformer": (722, 722), "all": (754, 794)},
    "sd3": {"attention": (191, 191), "cross-attention": (48, 48), "transformer": (332, 332), "all": (338, 339)},
}
"""Model -> preset -> how many layers of the denoiser, without and with kernels: of the U-Nets, as many as kohya's and
diffusers' scripts choose; sd3 has 24 blocks, with 8 layers of attention in each, the last without the text's output."""
TEXT = {"sd1": 72, "sd2": 138, "sdxl": 72 + 192, "sd3": 72 + 192 + 24 * 7}


@pytest.mark.parametrize("model", COUNTS)
def test_presets_choose_as_many_layers_as_the_scripts_of_others(model: str, models: Mapping[str, Checkpoint]) -> None:
    found: dict[str, tuple[int, int]] = {}
    for preset in COUNTS[model]:
        own = chosen(models[model], Targets(layers=preset))
        found[preset] = sum(not place.is_kernel for place in own), len(own)
    assert found == COUNTS[model]
    both = chosen(models[model], Targets(layers="attention", text=True))
    assert len(both) - found["attention"][1] == TEXT[model]


def test_layers_that_single_files_join_go_by_their_own_names(models: Mapping[str, Checkpoint]) -> None:
    names = {place.name for place in chosen(models["sd3"], EVERYTHING)}
    assert {
        "lora_unet_transformer_blocks_0_attn_to_q",
        "lora_unet_transformer_blocks_0_attn_add_k_proj",
        "lora_unet_joint_blocks_0_x_block_attn_proj",
        "lora_unet_x_embedder_proj",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
        "lora_te2_text_model_encoder_layers_31_self_attn_v_proj",
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q",
        "lora_te3_encoder_block_23_layer_1_DenseReluDense_wi_0",
    } <= names
    assert not any("bias" in name or "shared" in name or "token_embedding" in name for name in names)


def test_patterns_are_looked_for_in_the_names_of_diffusers(models: Mapping[str, Checkpoint]) -> None:
    found = chosen(models["sd1"], Targets(layers=(r"mid_block.*attn2\.to_[qk]$", r"conv_shortcut", r"^time_")))
    assert [place.name.removeprefix("lora_unet_") for place in found][:2] == [
        "time_embedding_linear_1",
        "time_embedding_linear_2",
    ]
    counts = [sum(mark in place.path for place in found) for mark in ("time_", "attn2", "conv_shortcut")]
    assert counts == [2, 2, 14]
    assert len(found) == 18
