"""What adapters of the field do through the ports, written as values: against diffusers, or against their limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unet_support
from atelier.adapters.port.freeu import by_level, by_width
from atelier.adapters.port.perturbed import chosen, perturbed
from atelier.diffusion.guidance.freeu import FreeuStage
from atelier.errors import BadInput
from atelier.models.unet import UNet
from atelier.nn.attention import Attention, attend, merge_heads, split_heads
from atelier.nn.ports import NOTHING, AttentionLayer, Conditioning, Ports, both
from weights_support import assert_close

T = torch.tensor([7.0, 901.0, 340.0])
X = torch.randn(3, 4, 16, 24, generator=torch.Generator().manual_seed(0))
CONTEXT = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1))
MIDDLE = "middle.attention.blocks.0.attn1"
CROSS = sorted(path for path, _ in unet_support.ours().named_modules() if path.endswith("attn2"))


@pytest.fixture(scope="module")
def net() -> UNet:
    return unet_support.ours()


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return unet_support.theirs()


def _output(net: UNet, ports: Ports = NOTHING, context: Tensor = CONTEXT) -> Tensor:
    return net(X, T, Conditioning(context), ports)


def _freeu(s1: float, s2: float, b1: float, b2: float) -> Ports:
    """The first two levels on the way up, three blocks each."""
    return by_level(FreeuStage(b1, s1), FreeuStage(b2, s2), blocks=3)


def test_freeu_is_that_of_diffusers(net: UNet, theirs: nn.Module) -> None:
    theirs.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    expected = theirs(X, T, CONTEXT).sample
    theirs.disable_freeu()
    assert_close(_output(net, _freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)), expected)
    assert not torch.allclose(expected, _output(net), atol=1e-2)


def test_freeu_by_width_acts_where_the_widest_features_come_from_below(net: UNet) -> None:
    """The authors' rule: also in the first block of a level, whose features are those of the level before."""
    seen: dict[str, int] = {}

    def look(path: str) -> Ports:
        def patch(features: Tensor, skip: Tensor, /) -> tuple[Tensor, Tensor]:
            seen[path] = features.shape[1]
            return features, skip

        return Ports(skips={path: patch})

    places = by_width(FreeuStage(2, 1), FreeuStage(1, 1), net.spec.widths, net.spec.blocks + 1).skips
    for path in places:
        _output(net, look(path))
    assert seen.keys() == places.keys()
    widest = max(net.spec.widths)
    for path, width in seen.items():
        features, skip = torch.ones(1, width, 2, 2), torch.ones(1, 2, 2, 2)
        assert float(places[path](features, skip)[0].max()) == (2 if width == widest else 1)


def test_two_values_of_a_port_act_one_after_the_other(net: UNet) -> None:
    twice = _freeu(1, 1, 1.5, 1)
    assert_close(_output(net, both(twice, twice)), _output(net, _freeu(1, 1, 2.25, 1)), 1e-4)
    assert both(NOTHING, twice) is both(twice, NOTHING) is twice


def test_neutral_freeu_is_none(net: UNet) -> None:
    assert torch.equal(_output(net, _freeu(1, 1, 1, 1)), _output(net))


def test_perturbed_attention_is_that_of_diffusers(
    net: UNet, theirs: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of diffusers' three branches the last, with the prompt and perturbed; without the ports the others."""
    from diffusers.models.attention_processor import PAGCFGIdentitySelfAttnProcessor2_0

    layer = theirs.get_submodule(unet_support.foreign(MIDDLE))
    monkeypatch.setattr(layer, "processor", PAGCFGIdentitySelfAttnProcessor2_0())
    changed, plain, expected = _output(net, perturbed([MIDDLE])), _output(net), theirs(X, T, CONTEXT).sample
    assert_close(changed[2:], expected[2:])
    assert_close(plain[:2], expected[:2])
    assert not torch.allclose(changed[2], plain[2], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("mid", ["middle.attention.blocks.0"]),
        ("down_blocks.1", [f"down.1.attentions.{k}.blocks.0" for k in range(2)]),
        ("up_blocks.1", [f"up.1.attentions.{k}.blocks.0" for k in range(3)]),
        ("up_blocks.2.attentions.1", ["up.2.attentions.1.blocks.0"]),
    ],
)
def test_layers_are_called_as_in_diffusers(
    net: UNet, theirs: nn.Module, monkeypatch: pytest.MonkeyPatch, name: str, ours: list[str]
) -> None:
    """Their pipelines put another processor into the layers that `pag_applied_layers` names."""
    from diffusers.pipelines.pag.pag_utils import PAGMixin

    taken: list[str] = []
    for path, module in theirs.named_modules():
        if hasattr(module, "processor"):
            monkeypatch.setattr(module, "processor", module.processor)
            taken.append(path)
    pipeline = PAGMixin()
    pipeline.unet = theirs
    pipeline._pag_attn_processors = ("cfg", "alone")
    pipeline._set_pag_attn_processor([name], do_classifier_free_guidance=True)
    replaced = [path for path in taken if theirs.get_submodule(path).processor == "cfg"]
    wanted = [f"{path}.attn1" for path in ours]
    assert chosen(_selves(net), name) == chosen(_selves(net), ",".join(ours)) == tuple(wanted)
    assert sorted(replaced) == sorted(unet_support.foreign(path) for path in wanted)


def _selves(net: UNet) -> tuple[str, ...]:
    return tuple(path for path, module in net.named_modules() if isinstance(module, Attention) and not module.is_cross)


def test_a_layer_that_is_none_is_one_line(net: UNet) -> None:
    with pytest.raises(BadInput) as caught:
        chosen(_selves(net), "middle, up.7")
    assert str(caught.value).startswith("pag_layers 'up.7': no self-attention of this model is there; there are down.")
    assert "middle, up.1" in str(caught.value)


def _image_prompt(to_k: nn.Module, to_v: nn.Module, tokens: Tensor, scale: float) -> AttentionPatch:
    """IP-Adapter (Ye 2023, arXiv:2308.06721, eq. 5): the same queries attend to image tokens beside the text."""

    def patch(
        layer: AttentionLayer, x: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, /
    ) -> Tensor:
        image_key, image_value = (split_heads(to(tokens), layer.heads) for to in (to_k, to_v))
        return attended + scale * merge_heads(attend(query, image_key, image_value))

    return patch


@pytest.fixture
def image_processors(theirs: nn.Module) -> Iterator[Mapping[str, nn.Module]]:
    """diffusers' IP-Adapter in every cross-attention, by our paths."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    before = dict(theirs.attn_processors)
    torch.manual_seed(3)
    made: dict[str, nn.Module] = {}
    for path in CROSS:
        width = theirs.get_submodule(unet_support.foreign(path)).to_q.weight.shape[0]
        made[path] = IPAdapterAttnProcessor2_0(width, 24, num_tokens=(4,), scale=0.7).requires_grad_(False)
    theirs.set_attn_processor(before | {f"{unet_support.foreign(p)}.processor": made[p] for p in CROSS})
    yield made
    theirs.set_attn_processor(before)


def test_image_prompts_are_those_of_diffusers(
    net: UNet, theirs: nn.Module, image_processors: Mapping[str, nn.Module]
) -> None:
    tokens = torch.randn(3, 4, 24, generator=torch.Generator().manual_seed(4))
    expected = theirs(X, T, (CONTEXT, [tokens])).sample
    patches = {p: _image_prompt(m.to_k_ip[0], m.to_v_ip[0], tokens, 0.7) for p, m in image_processors.items()}
    assert_close(_output(net, Ports(attention=patches)), expected)
    assert not torch.allclose(expected, _output(net), atol=1e-2)


def _regions(mask: Tensor) -> Ports:
    """The tokens are those of two prompts, one after the other: the first acts where the mask (H, W) is 1, the second
    where it is 0."""

    def patch(
        layer: AttentionLayer, x: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, /
    ) -> Tensor:
        pairs = zip(key.chunk(2, dim=2), value.chunk(2, dim=2), strict=True)
        first, second = (merge_heads(attend(query, k, v)) for k, v in pairs)
        share = F.adaptive_avg_pool2d(mask[None, None], layer.grid).reshape(1, -1, 1)
        return share * first + (1 - share) * second

    return Ports(attention=dict.fromkeys(CROSS, patch))


def _left(height: int, width: int) -> Tensor:
    return (torch.arange(width) < width // 2).float().expand(height, width)


def test_regions_by_attention(net: UNet) -> None:
    """A mask of one value is its prompt alone; one prompt twice is that prompt under any mask."""
    other = CONTEXT.flip(0)
    both = torch.cat([CONTEXT, other], dim=1)
    mask = torch.ones(16, 24)
    assert_close(_output(net, _regions(mask), both), _output(net), 1e-5)
    assert_close(_output(net, _regions(0 * mask), both), _output(net, context=other), 1e-5)
    assert_close(_output(net, _regions(_left(16, 24)), torch.cat([CONTEXT] * 2, dim=1)), _output(net), 1e-5)


def test_a_region_acts_on_its_own_side(net: UNet) -> None:
    """In the first cross-attention, before positions have mixed: on the left the one prompt, on the right the other."""
    first, seen = CROSS[0], dict[str, Tensor]()

    def run(name: str, context: Tensor, patch: Callable[..., Tensor] | None) -> Tensor:
        def look(*given: Tensor) -> Tensor:
            seen[name] = given[-1] if patch is None else patch(*given)
            return seen[name]

        _output(net, Ports(attention={first: look}), context)
        return seen[name].unflatten(1, (16, 24))

    other = CONTEXT.flip(0)
    one, two = run("one", CONTEXT, None), run("two", other, None)
    patch = _regions(_left(16, 24)).attention[first]
    mixed = run("mixed", torch.cat([CONTEXT, other], dim=1), patch)
    assert_close(mixed[:, :, :12], one[:, :, :12], 1e-5)
    assert_close(mixed[:, :, 12:], two[:, :, 12:], 1e-5)
    assert not torch.allclose(one, two, atol=1e-2)
