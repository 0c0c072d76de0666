"""The ports of the U-Net: residuals against diffusers', patches at every place, nothing kept between calls."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import unet_support
from atelier.models.unet import UNet
from atelier.nn.attention import Attention
from atelier.nn.ports import NOTHING, AttentionLayer, Conditioning, Ports
from weights_support import assert_close

X, T = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(0)), torch.tensor([7.0, 901.0])
CONTEXT = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(1))
GRIDS = {"down.0": (16, 24), "down.1": (8, 12), "down.2": (4, 6), "middle": (2, 3)} | {
    "up.1": (4, 6),
    "up.2": (8, 12),
    "up.3": (16, 24),
}


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    return unet_support.theirs()


@pytest.fixture(scope="module")
def net() -> UNet:
    return unet_support.ours()


def _output(net: UNet, ports: Ports = NOTHING) -> Tensor:
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
    assert_close(_output(net, Ports(residuals=_residuals())), expected)
    assert not torch.allclose(expected, _output(net), atol=1e-2)


def test_a_wrong_number_of_residuals_is_refused(net: UNet) -> None:
    *skips, middle = _residuals()
    with pytest.raises(ValueError, match="zip"):
        _output(net, Ports(residuals=(*skips[:-1], middle)))


def test_every_attention_answers_to_its_path(net: UNet) -> None:
    """A patch sees all that its layer knows; left alone, not a bit changes."""
    paths = {path for path, module in net.named_modules() if isinstance(module, Attention)}
    seen: dict[str, AttentionLayer] = {}

    def look(
        layer: AttentionLayer, x: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, /
    ) -> Tensor:
        width = net.get_submodule(layer.path).to_v.weight.shape[0]
        positions = layer.grid[0] * layer.grid[1]
        assert x.shape == attended.shape == (2, positions, width)
        assert query.shape == (2, layer.heads, positions, width // layer.heads)
        assert key.shape == value.shape == (2, layer.heads, 5 if layer.is_cross else positions, width // layer.heads)
        seen[layer.path] = layer
        return attended

    changed = _output(net, Ports(attention=dict.fromkeys(paths, look)))
    assert seen.keys() == paths
    assert {layer.heads for layer in seen.values()} == {2}
    assert {path for path, layer in seen.items() if layer.is_cross} == {p for p in paths if p.endswith("attn2")}
    assert {(path.split(".attention")[0], layer.grid) for path, layer in seen.items()} == set(GRIDS.items())
    assert torch.equal(changed, _output(net))


@pytest.mark.parametrize("path", ["down.0.attentions.1.blocks.0.attn2", "middle.attention.blocks.0.attn1"])
def test_an_attention_patch_sees_the_layers_own_numbers(net: UNet, path: str) -> None:
    """Query, key and value are what the layer's projections give, and attended is what follows from them."""
    layer = net.get_submodule(path)
    assert isinstance(layer, Attention)
    seen: dict[str, Tensor] = {}
    kept = [
        getattr(layer, name).register_forward_hook(lambda _m, _x, out, name=name: seen.update({name: out}))
        for name in ("to_q", "to_k", "to_v")
    ]

    def look(_layer: AttentionLayer, _x: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor) -> Tensor:
        for name, given in (("to_q", query), ("to_k", key), ("to_v", value)):
            assert torch.equal(torch.cat([given[:, 0], given[:, 1]], dim=-1), seen[name])
        probabilities = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)
        by_head = probabilities @ value
        assert_close(attended, torch.cat([by_head[:, 0], by_head[:, 1]], dim=-1), 1e-5)
        return attended

    _output(net, Ports(attention={path: look}))
    for handle in kept:
        handle.remove()


@pytest.mark.parametrize("path", ["down.0.attentions.1.blocks.0.attn2", "middle.attention.blocks.0.attn1"])
def test_what_an_attention_patch_returns_takes_effect(net: UNet, path: str) -> None:
    """Nothing attended is what the layer gives without its projection in: the same as values of zero."""
    layer = net.get_submodule(path)
    assert isinstance(layer, Attention)
    changed = _output(net, Ports(attention={path: lambda *seen: torch.zeros_like(seen[-1])}))
    values = layer.to_v.weight.clone()
    layer.to_v.weight.zero_()
    expected = _output(net)
    layer.to_v.weight.copy_(values)
    assert torch.equal(changed, expected)
    assert not torch.equal(changed, _output(net))


def test_every_level_hands_its_features_to_its_patch(net: UNet) -> None:
    paths = [*(f"down.{i}" for i in range(4)), "middle", *(f"up.{i}" for i in range(4))]
    seen: dict[str, tuple[int, ...]] = {}

    def look(path: str):
        def patch(features: Tensor, /) -> Tensor:
            seen[path] = tuple(features.shape[1:])
            return features

        return patch

    changed = _output(net, Ports(features={path: look(path) for path in paths}))
    assert list(seen) == paths
    assert (seen["down.0"], seen["middle"], seen["up.3"]) == ((16, 8, 12), (32, 2, 3), (16, 16, 24))
    assert torch.equal(changed, _output(net))
    for path in paths:
        assert not torch.equal(_output(net, Ports(features={path: lambda x: 1.5 * x})), changed)


def test_every_block_on_the_way_up_hands_over_both_halves_of_its_input(net: UNet) -> None:
    """In order of execution: channels from below and from beside, and the side of the map."""
    seen: dict[str, tuple[int, int, int]] = {}

    def look(path: str):
        def patch(features: Tensor, skip: Tensor, /) -> tuple[Tensor, Tensor]:
            assert features.shape[2:] == skip.shape[2:]
            seen[path] = (features.shape[1], skip.shape[1], features.shape[2])
            return features, skip

        return patch

    paths = [f"up.{i}.{j}" for i in range(4) for j in range(3)]
    changed = _output(net, Ports(skips={path: look(path) for path in paths}))
    assert list(seen.values()) == [
        *[(32, 32, 2)] * 3,
        *[(32, 32, 4), (32, 32, 4), (32, 16, 4)],
        *[(32, 16, 8), (16, 16, 8), (16, 16, 8)],
        *[(16, 16, 16)] * 3,
    ]
    assert list(seen) == paths
    assert torch.equal(changed, _output(net))


@pytest.mark.parametrize("number", range(12))
def test_a_skip_patched_is_a_skip_with_a_residual(net: UNet, number: int) -> None:
    """The port of residuals numbers the skips from the bottom of the way down: the last is taken first."""
    level, block = divmod(11 - number, 3)
    residuals = [torch.zeros_like(r) for r in _residuals()]
    residuals[number] = _residuals()[number]
    patch = {f"up.{level}.{block}": lambda features, skip: (features, skip + _residuals()[number])}
    assert torch.equal(_output(net, Ports(skips=patch)), _output(net, Ports(residuals=tuple(residuals))))


def test_features_from_below_can_be_patched_before_they_are_joined(net: UNet) -> None:
    """What enters the first block on the way up is what leaves the middle."""
    doubled = _output(net, Ports(skips={"up.0.0": lambda features, skip: (2 * features, skip)}))
    assert torch.equal(doubled, _output(net, Ports(features={"middle": lambda x: 2 * x})))


def test_neutral_ports_change_no_bit_and_nothing_is_kept(net: UNet) -> None:
    before = _output(net)
    assert torch.equal(_output(net, Ports()), before)
    assert torch.equal(_output(net, Ports(residuals=tuple(map(torch.zeros_like, _residuals())))), before)
    own = [residual.clone() for residual in _residuals()]
    given = _residuals()
    _output(net, Ports(residuals=given, features={"middle": lambda x: 2 * x}))
    assert all(torch.equal(a, b) for a, b in zip(given, own, strict=True)), "what is given is not written into"
    assert torch.equal(_output(net), before)


def test_two_threads_with_different_ports_get_what_each_gets_alone(net: UNet) -> None:
    """They meet inside the network, at three places, so that each is in the middle of its call during the other's."""
    meeting = threading.Barrier(2, timeout=60)

    def first(*, together: bool) -> Tensor:
        def wait(features: Tensor, /) -> Tensor:
            if together:
                meeting.wait()
            return 1.5 * features

        attention = {"middle.attention.blocks.0.attn1": lambda *seen: 0 * seen[-1]}
        return _output(net, Ports(attention=attention, features=dict.fromkeys(("down.1", "middle", "up.1"), wait)))

    def second(*, together: bool) -> Tensor:
        def wait(features: Tensor, /) -> Tensor:
            if together:
                meeting.wait()
            return features - 1

        skips = {"up.2.1": lambda features, skip: (features, 0.5 * skip)}
        waits = dict.fromkeys(("down.1", "middle", "up.1"), wait)
        return _output(net, Ports(residuals=_residuals(), skips=skips, features=waits))

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(call, together=True) for call in (first, second)]
        together = [future.result() for future in both]
        alone = [pool.submit(call, together=False).result() for call in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
    assert not torch.allclose(*alone, atol=1e-2)
