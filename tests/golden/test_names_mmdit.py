"""The MMDiT against diffusers': key sets and counts at true size, numbers at tiny sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier.errors import BadFile, BadInput
from atelier.families.facts import PartFacts
from atelier.families.parts import mmdit
from atelier.families.shapes import Shapes
from atelier.models.mmdit import MMDiT, MMDiTSpec, position_table
from atelier.nn.ports import Conditioning, Ports
from atelier.weights.archive import Stored, open_file
from atelier.weights.load import load_into, read
from atelier.weights.names.mmdit import names
from atelier.weights.save import stored_as
from key_lists import key_list
from weights_support import assert_close, fill, stored

PREFIX = "model.diffusion_model."

MEDIUM = MMDiTSpec()
MEDIUM_35 = MMDiTSpec(side=384, qk_norm=True, dual=tuple(range(13)))
LARGE_35 = MMDiTSpec(width=2432, depth=38, heads=38, qk_norm=True)
SIZES: Mapping[str, tuple[MMDiTSpec, int, int]] = {
    "medium": (MEDIUM, 2_028_328_000, 56_623_104),
    "3.5 medium": (MEDIUM_35, 2_243_171_520, 226_492_416),
    "3.5 large": (LARGE_35, 8_056_627_520, 89_653_248),
}
"""The spec, its parameters, and the numbers of its table of positions, as published."""
LISTS: Mapping[str, tuple[MMDiTSpec, str, str]] = {
    "medium, one file": (MEDIUM, "sd3_medium_comfy", "ldm"),
    "medium, folder": (MEDIUM, "sd3_medium_transformer_diffusers", "diffusers"),
    "3.5 medium, folder": (MEDIUM_35, "sd35_medium_transformer_diffusers", "diffusers"),
    "3.5 large, one file": (LARGE_35, "sd35_large_sai", "ldm"),
    "3.5 large, folder": (LARGE_35, "sd35_large_transformer_diffusers", "diffusers"),
}

TINY: Mapping[str, dict[str, Any]] = {
    "like medium": {},
    "like 3.5 medium": {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)},
    "like 3.5 large": {"qk_norm": "rms_norm"},
}


def foreign(**config: Any) -> Any:
    """A very small network of diffusers, its table of positions as it makes it."""
    from diffusers import SD3Transformer2DModel

    sizes: dict[str, Any] = {
        "sample_size": 12,
        "patch_size": 2,
        "in_channels": 16,
        "num_layers": 3,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": 40,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 24,
        "out_channels": 16,
        "pos_embed_max_size": 9,
    }
    net = SD3Transformer2DModel(**(sizes | config))
    table = net.pos_embed.pos_embed.clone()
    fill(net).pos_embed.pos_embed.copy_(table)
    return net


def loaded(part: Stored, heads: int = 4) -> MMDiT:
    spec = mmdit.infer(Shapes.of(part), PartFacts(heads=(heads,)))
    return load_into(lambda: MMDiT(spec), read(part, names(spec)))


def given(rows: int = 2, height: int = 10, width: int = 14) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    torch.manual_seed(0)
    x, t = torch.randn(rows, 16, height, width), torch.tensor([7.0, 901.5])[:rows]
    return x, t, Conditioning(torch.randn(rows, 11, 40), torch.randn(rows, 24))


@pytest.fixture(scope="module")
def meta() -> dict[MMDiTSpec, MMDiT]:
    with torch.device("meta"):
        return {spec: MMDiT(spec) for spec, _, _ in SIZES.values()}


@pytest.mark.parametrize("size", SIZES)
def test_true_size_has_the_published_parameters(size: str, meta: dict[MMDiTSpec, MMDiT]) -> None:
    spec, parameters, table = SIZES[size]
    net = meta[spec]
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert net.positions.numel() == table
    assert sorted(name.ours for name in names(spec)) == sorted(net.state_dict())


@pytest.mark.parametrize("case", LISTS)
def test_true_size_has_the_published_names_and_shapes(case: str, meta: dict[MMDiTSpec, MMDiT]) -> None:
    spec, name, layout = LISTS[case]
    prefix = PREFIX if layout == "ldm" else ""
    keys = key_list(name)
    expected = {key.removeprefix(prefix): shape for key, shape in keys.items() if key.startswith(prefix)}
    written = stored_as(meta[spec].state_dict(), names(spec), layout)
    assert {key: tuple(tensor.shape) for key, tensor in written.items()} == expected
    assert mmdit.infer(Shapes("file", layout, expected), PartFacts()) == spec


@pytest.mark.parametrize("config", TINY.values(), ids=TINY)
@pytest.mark.parametrize("height", [10, 18])
def test_numbers_are_those_of_diffusers(config: dict[str, Any], height: int, tmp_path: Path) -> None:
    theirs = foreign(**config)
    ours = loaded(stored(theirs, tmp_path))
    assert (ours.spec.qk_norm, ours.spec.dual) == ("qk_norm" in config, config.get("dual_attention_layers", ()))
    x, t, cond = given(height=height)
    with torch.no_grad():
        expected = theirs(x, cond.tokens, cond.pooled, t).sample
        assert_close(ours(x, t, cond), expected)


def test_both_layouts_hold_the_same_network(tmp_path: Path) -> None:
    """Query, key and value in one piece, and the halves of the modulations without gate in the other order."""
    theirs = foreign(**TINY["like 3.5 medium"])
    folder = stored(theirs, tmp_path)
    ours = loaded(folder)
    save_file(stored_as(ours.state_dict(), names(ours.spec), "ldm", PREFIX), tmp_path / "one.safetensors")
    single = load_file(tmp_path / "one.safetensors")
    there = theirs.state_dict()
    fused = [there[f"transformer_blocks.1.attn.add_{to}_proj.weight"] for to in "qkv"]
    assert torch.equal(single[f"{PREFIX}joint_blocks.1.context_block.attn.qkv.weight"], torch.cat(fused))
    scale, shift = there["norm_out.linear.weight"].chunk(2)
    assert torch.equal(single[f"{PREFIX}final_layer.adaLN_modulation.1.weight"], torch.cat([shift, scale]))
    last = there["transformer_blocks.2.norm1_context.linear.bias"].roll(32)
    assert torch.equal(single[f"{PREFIX}joint_blocks.2.context_block.adaLN_modulation.1.bias"], last)
    same = there["transformer_blocks.1.norm1_context.linear.bias"]
    assert torch.equal(single[f"{PREFIX}joint_blocks.1.context_block.adaLN_modulation.1.bias"], same)
    again = loaded(Stored(open_file(tmp_path / "one.safetensors"), "ldm", PREFIX))
    assert again.spec == ours.spec
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in ours.state_dict().items())
    back = stored_as(again.state_dict(), names(again.spec), "diffusers")
    assert back.keys() == there.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in there.items())


def test_blocks_that_are_left_out_and_residuals_are_those_of_diffusers(tmp_path: Path) -> None:
    theirs = foreign(num_layers=4)
    ours = loaded(stored(theirs, tmp_path))
    x, t, cond = given()
    residuals = tuple(torch.randn(2, 35, 32) for _ in range(2))
    with torch.no_grad():
        plain = ours(x, t, cond)
        skipped = theirs(x, cond.tokens, cond.pooled, t, skip_layers=[1, 2]).sample
        assert_close(ours(x, t, cond, Ports(omitted=frozenset({"blocks.1", "blocks.2"}))), skipped)
        added = theirs(x, cond.tokens, cond.pooled, t, block_controlnet_hidden_states=list(residuals)).sample
        assert_close(ours(x, t, cond, Ports(residuals=residuals)), added)
        assert torch.equal(ours(x, t, cond, Ports()), plain)
    for other in (skipped, added):
        assert float((other - plain).abs().max() / plain.std()) > 0.1


def test_the_ports_reach_every_attention(tmp_path: Path) -> None:
    """The image's queries against the keys of both, the image's first; what a patch returns is what goes on."""
    ours = loaded(stored(foreign(**TINY["like 3.5 medium"]), tmp_path))
    x, t, cond = given()
    seen: dict[str, tuple[int, ...]] = {}

    def watch(layer: Any, x: Any, query: Any, key: Any, value: Any, attended: Any, /) -> torch.Tensor:
        seen[layer.path] = (*layer.grid, layer.heads, query.shape[2], key.shape[2])
        whole = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        assert torch.allclose(whole, attended, atol=1e-6)
        return attended

    paths = ["blocks.0.attn", "blocks.0.attn2", "blocks.1.attn", "blocks.1.attn2", "blocks.2.attn"]
    with torch.no_grad():
        plain = ours(x, t, cond)
        assert torch.equal(ours(x, t, cond, Ports(attention=dict.fromkeys(paths, watch))), plain)
        assert seen == {path: (5, 7, 4, 35, 35 if path.endswith("2") else 46) for path in paths}
        for path in paths:
            silent = Ports(attention={path: lambda *given: torch.zeros_like(given[-1])})
            assert not torch.allclose(ours(x, t, cond, silent), plain, atol=1e-3), path
        doubled = Ports(features={"blocks.1": lambda features: 2 * features})
        assert not torch.allclose(ours(x, t, cond, doubled), plain, atol=1e-3)


def test_latents_of_odd_sides_are_filled_up_and_cut(tmp_path: Path) -> None:
    ours = loaded(stored(foreign(), tmp_path))
    x, t, cond = given(height=9, width=13)
    wide = torch.cat([x, x[:, :, -1:]], dim=2)
    wide = torch.cat([wide, wide[..., -1:]], dim=3)
    with torch.no_grad():
        found, expected = ours(x, t, cond), ours(wide, t, cond)
    assert torch.equal(found, expected[:, :, :9, :13])


def test_a_latent_beyond_the_table_is_refused(tmp_path: Path) -> None:
    ours = loaded(stored(foreign(), tmp_path))
    x, t, cond = given(height=20)
    with pytest.raises(BadInput, match=r"14x20 positions, and this model knows 18 along a side"):
        ours(x, t, cond)


def test_the_table_of_a_new_network_is_that_of_diffusers() -> None:
    theirs = foreign(sample_size=128, pos_embed_max_size=12, caption_projection_dim=32)
    assert torch.allclose(position_table(12, 32), theirs.pos_embed.pos_embed, atol=1e-6)


def test_a_table_that_is_no_square_is_refused(tmp_path: Path) -> None:
    part = stored(foreign(), tmp_path)
    found = Shapes.of(part)
    wrong = replace(found, found={**found.found, "pos_embed.pos_embed": (1, 80, 32)})
    with pytest.raises(BadFile, match="80 places, which are no square"):
        mmdit.infer(wrong, PartFacts())
