"""Every linear and convolution of the networks is called, so that what hooks onto a module acts as its weight does."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.models.clip import ClipText, ClipVision, TextSpec, VisionSpec
from atelier.models.mmdit import MMDiT, MMDiTSpec
from atelier.models.rrdbnet import RrdbNet, RrdbSpec
from atelier.models.srvgg import SrvggNet, SrvggSpec
from atelier.models.t5 import T5Encoder, T5Spec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.nn.ports import Conditioning
from tiny import randomize

TOKENS = torch.tensor([[96, 5, 7, 98, 98, 98], [96, 3, 98, 98, 98, 98]])
RANK = 2
BOUND = 1e-5
"""In standard deviations of the output: float32 adds two products in another order."""


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _unet(*, linear: bool) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """The architecture of Stable Diffusion 1.x, narrow."""
    spec = UNetSpec(widths=(8, 16, 32, 32), heads=(2,) * 4, context=12, groups=4, linear_proj=linear)
    x, cond = _noise(2, 4, 16, 24), Conditioning(_noise(2, 5, 12))
    return UNet(spec), lambda net: net(x, torch.tensor([7.0, 901.0]), cond)


def _text() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """The depth of CLIP-L/14, narrow."""
    spec = TextSpec(vocab=99, width=16, layers=12, heads=2, mlp=32, positions=8, projection=12, eos=98)

    def run(net: nn.Module) -> Tensor:
        states = net(TOKENS)
        return torch.cat([states.last.flatten(), states.pooled.flatten()])

    return ClipText(spec), run


def _mmdit() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    """A block with a second attention, one without, and the last one, whose text gives nothing but keys and values."""
    spec = MMDiTSpec(4, 4, width=16, depth=3, heads=2, context=12, pooled=6, side=8, qk_norm=True, dual=(0,))
    x, cond = _noise(2, 4, 8, 12), Conditioning(_noise(2, 5, 12), _noise(2, 6))
    return MMDiT(spec), lambda net: net(x, torch.tensor([7.0, 901.0]), cond)


def _t5() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    net = T5Encoder(T5Spec(vocab=99, width=16, layers=3, heads=2, inner=12, mlp=24, buckets=8))
    return net, lambda net: net(TOKENS)


def _vision() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    spec = VisionSpec(image=28, patch=7, width=16, layers=3, heads=2, mlp=32, projection=12)
    return ClipVision(spec), lambda net: net(_noise(2, 3, 28, 28)).embedding


def _vae() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    net = AutoencoderKL(VaeSpec(widths=(8, 16), blocks=1, groups=4))
    return net, lambda net: net.decode(net.encode(_noise(1, 3, 16, 24)).mean)


def _rrdbnet() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    net = RrdbNet(RrdbSpec(width=8, growth=4, blocks=2, unshuffle=2, pointwise=True))
    return net, lambda net: net(_noise(1, 3, 16, 24))


def _srvgg() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    return SrvggNet(SrvggSpec(width=8, layers=3)), lambda net: net(_noise(1, 3, 8, 12))


NETWORKS = {
    # 16 transformers of 12 layers each are the 192 modules that a LoRA of Stable Diffusion 1.x has for the U-Net; then
    # 22 residual blocks of 3 layers, 14 shortcuts, 6 changes of resolution, 2 for the time, 2 at the ends.
    "unet": (lambda: _unet(linear=False), 192 + 66 + 14 + 6 + 2 + 2),
    "unet, linear": (lambda: _unet(linear=True), 192 + 66 + 14 + 6 + 2 + 2),
    # Each stream has 4 layers in its attention, 2 in its perceptron, 1 for what the condition changes; the second
    # attention 4; the last text stream 3 and 1. Then patches, final layer and its change, text, 2 for time and pooled.
    "mmdit": (_mmdit, 2 * 2 * 7 + 4 + (7 + 4) + 1 + 2 + 1 + 2 * 2),
    "t5": (_t5, 3 * (4 + 3)),
    "text": (_text, 72 + 1),  # 72 are those of a LoRA for CLIP-L; the projection
    "vision": (_vision, 3 * 6 + 2),  # patches and projection
    # Encoder: ends 2, blocks 2 x 2 + 1 shortcut, downsampling, middle 2 x 2 + 4; decoder: ends 2, blocks 4 x 2 + 1,
    # upsampling, middle 8; two 1x1 convolutions between them.
    "rrdbnet": (_rrdbnet, 2 * 3 * (5 + 1) + 6),  # dense blocks with the 1x1 layer; two at each end, two doublings
    "srvgg": (_srvgg, 3 + 2),
    "vae": (_vae, (2 + 5 + 1 + 8) + (2 + 9 + 1 + 8) + 2),
}


def _layers(net: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    return {name: m for name, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}


def _factors(layer: nn.Linear | nn.Conv2d, seed: int) -> tuple[Tensor, Tensor]:
    """down: (rank, inputs, *kernel) and up: (outputs, rank), a delta of a tenth of the weight's size."""
    down = _noise(RANK, *layer.weight.shape[1:], seed=seed) / math.sqrt(layer.weight[0].numel())
    return down, 0.1 / math.sqrt(RANK) * _noise(layer.weight.shape[0], RANK, seed=seed + 1)


def _low_rank(layer: nn.Linear | nn.Conv2d, down: Tensor, up: Tensor, x: Tensor) -> Tensor:
    """LoRA beside the layer, written for any linear and any convolution: the layer's own geometry, then 1x1."""
    if isinstance(layer, nn.Linear):
        return F.linear(F.linear(x, down), up)
    return F.conv2d(F.conv2d(x, down, stride=layer.stride, padding=layer.padding), up[..., None, None])


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_hook_on_every_layer_is_the_merge_into_every_weight(name: str) -> None:
    make, count = NETWORKS[name]
    net, run = make()
    randomize(net, 0)
    merged, fired = copy.deepcopy(net), Counter[str]()
    layers = _layers(net)

    def attach(key: str, layer: nn.Linear | nn.Conv2d, down: Tensor, up: Tensor) -> None:
        def hook(_module: nn.Module, given: tuple[Tensor], out: Tensor) -> Tensor:
            fired[key] += 1
            alone = type(layer).forward(merged.get_submodule(key), *given)
            changed = out + _low_rank(layer, down, up, *given)
            assert float((changed - alone).abs().max() / alone.std()) <= BOUND, key
            return changed

        layer.register_forward_hook(hook)
        merged.get_submodule(key).weight += (up @ down.flatten(1)).reshape(layer.weight.shape)

    plain = run(net)
    for seed, (key, layer) in enumerate(layers.items()):
        attach(key, layer, *_factors(layer, 2 * seed))
    hooked, expected = run(net), run(merged)
    assert fired == dict.fromkeys(layers, 1)
    assert len(fired) == count
    assert float((hooked - expected).abs().max() / expected.std()) <= BOUND
    assert float((plain - expected).abs().max() / expected.std()) > 0.01


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (_text, "token_embedding"),
        (_text, "position_embedding"),
        (_vision, "position_embedding"),
        (_t5, "token_embedding"),
        (_t5, "distances"),
    ],
)
@torch.no_grad()
def test_embeddings_are_called(make: Callable[[], tuple[nn.Module, Callable[[nn.Module], Tensor]]], name: str) -> None:
    """Textual inversion and long prompts change what they return."""
    net, run = make()
    randomize(net, 0)
    plain = run(net)
    net.get_submodule(name).register_forward_hook(lambda _module, _ids, out: out.flip(-1))
    assert not torch.allclose(run(net), plain, atol=1e-2)
