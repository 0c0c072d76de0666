"""The ports of the U-Net: residuals against diffusers', patches at every place, nothing kept between calls."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from atelier.families.facts import PartFacts
from atelier.families.parts import unet
from atelier.families.shapes import Shapes
from atelier.models.unet import UNet
from atelier.nn.attention import Attention
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.weights.load import load_into, read
from atelier.weights.names.unet import names
from weights_support import assert_close, fill, stored

X, T = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(0)), torch.tensor([7.0, 901.0])
CONTEXT = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    widths = (16, 16, 32, 32)
    return fill(
        UNet2DConditionModel(block_out_channels=widths, attention_head_dim=2, cross_attention_dim=24, norm_num_groups=8)
    )


@pytest.fixture(scope="module")
def net(theirs: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> UNet:
    part = stored(theirs, Path(tmp_path_factory.mktemp("unet")))
    spec = unet.infer(Shapes.of(part), PartFacts(heads=(2,), groups=8))
    return load_into(lambda: UNet(spec), read(part, names(spec))).requires_grad_(requires_grad=False)


def _painted(net: UNet, ports: Ports = NOTHING) -> Tensor:
    return net(X, T, Conditioning(CONTEXT), ports)


def _residuals() -> tuple[Tensor, ...]:
    """Those of a ControlNet for Stable Diffusion 1.x: twelve for the skips and one for the middle."""
    sides = (((16, 24), 16, 3), ((8, 12), 16, 1), ((8, 12), 16, 2), ((4, 6), 16, 1), ((4, 6), 32, 2), ((2, 3), 32, 4))
    shapes = [(2, width, *side) for side, width, count in sides for _ in range(count)]
    noise = torch.Generator().manual_seed(2)
    return tuple(torch.randn(shape, generator=noise) for shape in shapes)


def test_residuals_are_those_of_diffusers(net: UNet, theirs: torch.nn.Module) -> None:
    *skips, middle = _residuals()
    with torch.no_grad():
        expected = theirs(
            X, T, CONTEXT, down_block_additional_residuals=tuple(skips), mid_block_additional_residual=middle
        ).sample
    assert_close(_painted(net, Ports(residuals=_residuals())), expected)
    assert not torch.allclose(expected, _painted(net), atol=1e-2)


def test_a_wrong_number_of_residuals_is_refused(net: UNet) -> None:
    *skips, middle = _residuals()
    with pytest.raises(ValueError, match="zip"):
        _painted(net, Ports(residuals=(*skips[:-1], middle)))


def test_every_attention_answers_to_its_path(net: UNet) -> None:
    """A patch sees the layer's input, its query by heads and what it attended; left alone, not a bit changes."""
    paths = {path for path, module in net.named_modules() if isinstance(module, Attention)}
    seen: dict[str, tuple[int, int]] = {}

    def look(path: str):
        def patch(x: Tensor, query: Tensor, attended: Tensor, /) -> Tensor:
            assert x.shape == attended.shape == (query.shape[0], query.shape[2], query.shape[1] * query.shape[3])
            seen[path] = (query.shape[1], x.shape[1])
            return attended

        return patch

    painted = _painted(net, Ports(attention={path: look(path) for path in paths}))
    assert seen.keys() == paths
    assert {heads for heads, _ in seen.values()} == {2}
    assert torch.equal(painted, _painted(net))


@pytest.mark.parametrize("path", ["down.0.attentions.1.blocks.0.attn2", "middle.attention.blocks.0.attn1"])
def test_what_an_attention_patch_returns_takes_effect(net: UNet, path: str) -> None:
    """Nothing attended is what the layer gives without its projection in: the same as values of zero."""
    layer = net.get_submodule(path)
    assert isinstance(layer, Attention)
    patched = _painted(net, Ports(attention={path: lambda _x, _query, attended: torch.zeros_like(attended)}))
    values = layer.to_v.weight.clone()
    layer.to_v.weight.zero_()
    expected = _painted(net)
    layer.to_v.weight.copy_(values)
    assert torch.equal(patched, expected)
    assert not torch.equal(patched, _painted(net))


def test_every_level_hands_its_features_to_its_patch(net: UNet) -> None:
    paths = [*(f"down.{i}" for i in range(4)), "middle", *(f"up.{i}" for i in range(4))]
    seen: dict[str, tuple[int, ...]] = {}

    def look(path: str):
        def patch(features: Tensor, /) -> Tensor:
            seen[path] = tuple(features.shape[1:])
            return features

        return patch

    painted = _painted(net, Ports(features={path: look(path) for path in paths}))
    assert list(seen) == paths
    assert (seen["down.0"], seen["middle"], seen["up.3"]) == ((16, 8, 12), (32, 2, 3), (16, 16, 24))
    assert torch.equal(painted, _painted(net))
    for path in paths:
        assert not torch.equal(_painted(net, Ports(features={path: lambda x: 1.5 * x})), painted)


def test_neutral_ports_change_no_bit_and_nothing_is_kept(net: UNet) -> None:
    before = _painted(net)
    assert torch.equal(_painted(net, Ports()), before)
    assert torch.equal(_painted(net, Ports(residuals=tuple(map(torch.zeros_like, _residuals())))), before)
    own = [residual.clone() for residual in _residuals()]
    given = _residuals()
    _painted(net, Ports(residuals=given, features={"middle": lambda x: 2 * x}))
    assert all(torch.equal(a, b) for a, b in zip(given, own, strict=True)), "what is given is not written into"
    assert torch.equal(_painted(net), before)
