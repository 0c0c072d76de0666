"""The U-Net against diffusers': key sets at true size, numbers at tiny sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.families.facts import PartFacts
from atelier.families.parts import unet
from atelier.families.shapes import Shapes
from atelier.models.unet import UNet, UNetSpec
from atelier.nn.ports import Conditioning
from atelier.weights.load import load_into, read
from atelier.weights.names.unet import names
from weights_support import assert_close, fill, published, stored

SD15 = 859_520_964
PREFIX = "model.diffusion_model."

TINY: Mapping[str, dict[str, Any]] = {
    "like SD 1": {
        "block_out_channels": (32, 64, 64, 96),
        "attention_head_dim": 4,
        "cross_attention_dim": 24,
        "norm_num_groups": 8,
    },
    "linear, deeper, heads by level, nine channels in, no attention on top": {
        "block_out_channels": (16, 32, 48),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (1, 2, 3),
        "transformer_layers_per_block": (1, 2, 3),
        "use_linear_projection": True,
        "layers_per_block": 1,
        "cross_attention_dim": 40,
        "in_channels": 9,
        "norm_num_groups": 4,
    },
}


def test_true_size_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        net = UNet(UNetSpec())
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    listed = list(names(net.spec))
    assert sum(parameter.numel() for parameter in net.parameters()) == SD15
    assert {name.ours for name in listed} == shapes.keys()
    required = published("sd1_ldm_required")
    assert {PREFIX + name.ldm: shapes[name.ours] for name in listed} == {
        key: shape for key, shape in required.items() if key.startswith(PREFIX)
    }
    assert {name.diffusers: shapes[name.ours] for name in listed} == published("sd1_unet_diffusers")


@pytest.mark.parametrize("config", TINY.values(), ids=TINY)
def test_numbers_are_those_of_diffusers(config: dict[str, Any], tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    theirs = fill(UNet2DConditionModel(**config))
    part = stored(theirs, tmp_path)
    heads = config["attention_head_dim"]
    facts = PartFacts(heads=heads if isinstance(heads, tuple) else (heads,), groups=config["norm_num_groups"])
    spec = unet.infer(Shapes.of(part), facts)
    assert spec.widths == config["block_out_channels"]
    ours = load_into(lambda: UNet(spec), read(part, names(spec)))
    x = torch.randn(2, spec.in_channels, 16, 24)
    t, context = torch.tensor([7.0, 901.0]), torch.randn(2, 5, spec.context)
    with torch.no_grad():
        expected = theirs(x, t, context).sample
        assert_close(ours(x, t, Conditioning(context)), expected)


@pytest.mark.parametrize("spec", [UNetSpec(), UNetSpec(widths=(32, 64), depth=(2, 1), heads=(2, 4), blocks=1)], ids=str)
def test_both_layouts_tell_the_same_spec(spec: UNetSpec) -> None:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in UNet(spec).state_dict().items()}
    facts = PartFacts(heads=spec.heads)
    listed = list(names(spec))
    for layout in ("ldm", "diffusers"):
        found = {name.stored(layout): shapes[name.ours] for name in listed}
        assert unet.infer(Shapes("file", layout, found), facts) == spec
