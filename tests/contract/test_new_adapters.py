"""What every kind of weight adapter that can be trained must do, from its first step to its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from atelier.adapters.attach import Changes, Strong, attached
from atelier.adapters.delta import Delta, Size
from atelier.adapters.growing import Growing, Growth, Place, trainable
from atelier.adapters.read import deltas, kinds, matched, open_adapter
from atelier.adapters.weight.lokr import halves
from atelier.errors import BadInput, UnknownName
from atelier.nn.ports import Conditioning
from atelier.train.teaching.base import Base, Caption, base_of, conditioning_of, opened
from atelier.train.teaching.pupils import AdapterPupil
from atelier.weights.formats import safetensors

pytestmark = pytest.mark.usefixtures("one_thread")
ON = {"unet": (r"^down_blocks\.1\.", "^conv_", "^time_embedding"), "text": (r"layers\.1\.(self_attn|mlp)\.",)}
"""Layers of every shape."""
PLAIN = [name for name, kind in kinds().items() if kind.new is not None]
WITH_LENGTHS = ["LoRA", "LoHa", "LoKr"]
EVERY = [
    *(pytest.param(Growth(kind, Size(3, 2.0, factor=4), Size(2, 5.0)), id=kind) for kind in PLAIN),
    pytest.param(Growth("LoKr", Size(1, 2.0), Size(1, 5.0)), id="LoKr of low rank"),
    *(
        pytest.param(Growth(kind, Size(3, 2.0), Size(2, 5.0), lengths=True), id=f"{kind} with lengths")
        for kind in WITH_LENGTHS
    ),
]
every = pytest.mark.parametrize("growth", EVERY)


@pytest.fixture(scope="module")
def base(tiny_file: Path) -> Base:
    return base_of(opened(str(tiny_file)), torch.device("cpu"), torch.float32)


def grown(base: Base, growth: Growth, *, shaken: float = 0.2) -> AdapterPupil:
    pupil = AdapterPupil(base, growth, ON, seed=1)
    if shaken:
        random = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in parameters(pupil).values():
                parameter.add_(shaken * torch.randn(parameter.shape, generator=random))
    return pupil


def parameters(pupil: AdapterPupil) -> dict[str, nn.Parameter]:
    return {f"{part}.{name}": p for part, net in pupil.nets.items() for name, p in net.named_parameters()}


def changes(pupil: AdapterPupil) -> Iterator[tuple[nn.Module, Changes]]:
    for part, adapter in pupil.adapters.items():
        yield pupil.base.networks[part], adapter.changes(part)


def each(pupil: AdapterPupil) -> Iterator[tuple[str, Tensor, Delta]]:
    """Every changed parameter: its name, its weight, its delta."""
    for net, own in changes(pupil):
        for name, (strong,) in own.items():
            assert strong.strength == 1
            yield name, net.get_parameter(name).detach(), strong.delta


def asked(base: Base) -> tuple[Tensor, Tensor]:
    """Noisy latents and times, for three images."""
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5)), torch.tensor([10.0, 500.0, 999.0])


def output(base: Base) -> Tensor:
    said = conditioning_of(base, base.encoder, [Caption(text, 32, 32) for text in ("a red cat", "dog", "")])
    return base.net(*asked(base), said)


@every
def test_a_new_one_changes_nothing(growth: Growth, base: Base) -> None:
    pupil = grown(base, growth, shaken=0.0)
    found = list(each(pupil))
    assert len(found) == sum(len(adapter.places) for adapter in pupil.adapters.values())
    assert any(weight.ndim == 4 and weight.shape[-1] == 3 for _, weight, _ in found)
    for name, weight, delta in found:
        assert torch.equal(delta.difference(weight), torch.zeros_like(weight)), name
        assert torch.equal(delta.fold(weight, 1.0), weight), name


@torch.no_grad()
@every
def test_folded_hooked_and_read_from_its_file_it_is_the_same(growth: Growth, base: Base, tmp_path: Path) -> None:
    pupil = grown(base, growth, shaken=0.05)
    tensors: dict[str, Tensor] = {}
    for adapter in pupil.adapters.values():
        tensors |= adapter.file(dict(adapter.named_parameters()))
    safetensors.save(tmp_path / "made.safetensors", {n: t.contiguous() for n, t in tensors.items()}, {})
    found = matched(open_adapter(tmp_path / "made.safetensors"), base.checkpoint)
    assert found.unmatched == ()
    assert len(found.placed) == len(list(each(pupil)))
    plain, made = output(base), dict[str, Tensor]()
    for how in ("fold", "hook"):
        own = [attached(net, of_net, how) for net, of_net in changes(pupil)]
        with own[0], own[1]:
            made[how] = output(base)
    read: dict[str, Mapping[str, list[Strong]]] = {
        part: {name: [Strong(delta, 1.0)] for name, (delta, _) in deltas(found, part).items()} for part in ON
    }
    with attached(base.net, read["unet"], "merge"), attached(base.encoder.nets[0], read["text"], "merge"):
        made["file"] = output(base)
    assert float((made["fold"] - plain).abs().max()) > 1e-2
    for name, weight, delta in each(pupil):
        (own,) = next(part[name] for part in read.values() if name in part)
        assert torch.equal(own.delta.fold(weight, 1.0), delta.fold(weight, 1.0)), name
    torch.testing.assert_close(made["file"], made["fold"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made["hook"], made["fold"], rtol=1e-4, atol=1e-5)
    assert torch.equal(output(base), plain)


@every
def test_only_what_is_trained_has_gradients(growth: Growth, base: Base) -> None:
    pupil = grown(base, growth)
    with pupil.at_work():
        output(base).square().mean().backward()
    for name, parameter in parameters(pupil).items():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
    for net in base.networks.values():
        assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    numbers = {name.rpartition(".")[2] for net in pupil.nets.values() for name, _ in net.named_buffers()}
    assert numbers <= {"alpha", "on_input"}, "numbers of the format are not trained"


@every
def test_the_gradients_of_folding_are_those_of_a_functional_call(growth: Growth, base: Base) -> None:
    pupil = grown(base, growth)
    net, adapter = base.net, pupil.adapters["unet"]
    said = Conditioning(torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(6)))
    with attached(net, adapter.changes("unet"), "fold"):
        net(*asked(base), said).square().mean().backward()
    folded = {name: p.grad for name, p in parameters(pupil).items() if name.startswith("unet")}
    for parameter in parameters(pupil).values():
        parameter.grad = None
    changed: dict[str, Tensor] = {}
    for name, (strong,) in adapter.changes("unet").items():
        weight = net.get_parameter(name)
        changed[name] = weight + strong.delta.difference(weight)
    torch.func.functional_call(net, changed, (*asked(base), said)).square().mean().backward()
    for name, grad in folded.items():
        wanted = parameters(pupil)[name].grad
        assert grad is not None
        assert wanted is not None
        torch.testing.assert_close(grad, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()), msg=name)


@every
def test_afterwards_every_bit_and_every_object_is_what_it_was(growth: Growth, base: Base) -> None:
    own = grown(base, growth).adapters["unet"].changes("unet")
    net = base.net
    objects, bits = list(net.named_parameters()), {name: t.clone() for name, t in net.state_dict().items()}

    def unchanged() -> None:
        now = list(net.named_parameters())
        assert [name for name, _ in now] == [name for name, _ in objects]
        assert all(one is other for (_, one), (_, other) in zip(now, objects, strict=True))
        assert all(torch.equal(t, bits[name]) for name, t in net.state_dict().items())
        assert all(not p.requires_grad for p in net.parameters())

    plain = output(base)
    with attached(net, own, "fold"):
        assert not torch.equal(output(base), plain)
        unchanged()
    unchanged()
    assert torch.equal(output(base), plain)
    with pytest.raises(ZeroDivisionError), attached(net, own, "fold"):
        raise ZeroDivisionError
    unchanged()
    last = list(own)[-1]
    broken = {**own, last: [Strong(_Broken(), 1.0)]}
    with pytest.raises(RuntimeError, match="does not fit"), attached(net, broken, "fold"):
        output(base)
    unchanged()
    assert torch.equal(output(base), plain)
    with pytest.raises(AttributeError), attached(net, {**own, "nothing.weight": own[last]}, "fold"):
        pytest.fail("a layer that is not there was changed")
    unchanged()


FOLDED = ["LoHa", "LoKr", "OFT", "LoRA with lengths", "LoHa with lengths"]


@pytest.mark.parametrize("name", FOLDED)
def test_of_a_changed_weight_nothing_but_itself_is_kept(name: str) -> None:
    """And where the layer is computed again for the backward pass, not even that."""
    kind, _, lengths = name.partition(" ")
    layer = nn.Linear(64, 48).requires_grad_(requires_grad=False)
    place = Place("lora_unet_x", "x", "unet", "0", (48, 64))
    random = torch.Generator().manual_seed(1)
    growth = Growth(kind, Size(3), lengths=bool(lengths))
    adapter = Growing((place,), growth, random, {("unet", "0"): layer.weight})
    net, x = nn.Sequential(layer), torch.randn(2, 64, generator=random, requires_grad=True)
    frozen = layer.weight.untyped_storage().data_ptr()
    for again, most in ((False, 1), (True, 0)):
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            if tensor.untyped_storage().data_ptr() != frozen:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        changes = adapter.changes("unet")
        with attached(net, changes, "fold"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            made = checkpoint(net, x, use_reentrant=False) if again else net(x)
        held = [size for size in kept.values() if size >= layer.weight.nbytes / 2]
        assert len(held) == most, name
        del made


class _Broken(Delta):
    def difference(self, weight: Tensor) -> Tensor:
        raise RuntimeError("does not fit")


FACTORS = {
    (127, -1): (1, 127),
    (128, -1): (8, 16),
    (250, -1): (10, 25),
    (512, -1): (16, 32),
    (1024, -1): (32, 32),
    (320, -1): (16, 20),
    (640, -1): (20, 32),
    (768, -1): (24, 32),
    (1280, -1): (32, 40),
    (128, 2): (2, 64),
    (128, 4): (4, 32),
    (128, 16): (8, 16),
    (250, 4): (2, 125),
    (250, 8): (5, 50),
    (250, 16): (10, 25),
    (768, 8): (8, 96),
    (127, 16): (1, 127),
    (4, 8): (2, 2),
    (1, -1): (1, 1),
}
"""(channels, factor) -> LyCORIS' factors of them."""


@pytest.mark.parametrize(("asked", "wanted"), FACTORS.items())
def test_lokr_divides_channels_as_lycoris_does(asked: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert halves(*asked) == wanted


def test_oft_stays_orthogonal(base: Base) -> None:
    pupil = grown(base, Growth("OFT", Size(block=8), Size(block=8)))
    sizes: set[int] = set()
    for name, weight, delta in each(pupil):
        one = torch.eye(len(weight))
        rotation = delta.fold(one, 1.0).detach()
        assert float((rotation - one).abs().max()) > 0.1
        torch.testing.assert_close(rotation @ rotation.T, one, rtol=0, atol=1e-5, msg=name)
        sizes.add(int((rotation[0] != 0).sum()))
    assert sizes == {8, 4}, "blocks of eight channels; of four at the end, where there are no more"


def test_lengths_alone_scale_the_rows_and_begin_at_the_base(base: Base) -> None:
    """DoRA without a difference: the base, and twice the lengths are twice the base."""
    pupil = grown(base, Growth("LoRA", Size(2), Size(2), lengths=True), shaken=0.0)
    with torch.no_grad():
        for name, parameter in parameters(pupil).items():
            if name.endswith("dora_scale"):
                parameter.mul_(2)
    for _, weight, delta in each(pupil):
        assert torch.equal(delta.fold(weight, 1.0), 2 * weight)


def test_the_rank_is_no_more_than_a_layer_has_and_keeps_the_scale(base: Base) -> None:
    """conv_out makes four channels: rank 4 of 6, at alpha / 6 as everywhere."""
    adapter = grown(base, Growth("LoRA", Size(6, 3.0), Size(6, 3.0)), shaken=0.0).adapters["unet"]
    own = adapter.file({})
    assert own["lora_unet_conv_out.lora_down.weight"].shape == (4, 32, 3, 3)
    assert float(own["lora_unet_conv_out.alpha"]) == 2.0
    assert float(own["lora_unet_down_blocks_1_resnets_0_conv1.alpha"]) == 3.0


def test_kernels_get_one_only_where_they_have_a_rank(base: Base) -> None:
    whole, points = (
        AdapterPupil(base, growth, {"unet": (".",)}, seed=1).adapters["unet"]
        for growth in (Growth(kernels=Size()), Growth())
    )
    kernels = {place.module for place in whole.places} - {place.module for place in points.places}
    wanted = {name for name, m in base.net.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)}
    assert kernels == wanted
    assert all(not place.is_kernel for place in points.places)


def test_the_same_seed_begins_alike(base: Base) -> None:
    one, same = (parameters(AdapterPupil(base, Growth(), ON, seed=1)) for _ in range(2))
    other = parameters(AdapterPupil(base, Growth(), ON, seed=2))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_what_cannot_be_grown_is_refused(base: Base) -> None:
    with pytest.raises(UnknownName, match="kind of adapter 'lorra': did you mean lora"):
        trainable("lorra")
    with pytest.raises(UnknownName):
        trainable("norm")
    assert trainable("LoCon").name == "LoRA"
    with pytest.raises(BadInput, match=r"rank 600: the largest layer has \d+ channels"):
        grown(base, Growth("LoRA", Size(600)))
    with pytest.raises(BadInput, match=r"rank 600: the largest layer has \d+ channels"):
        grown(base, Growth("LoRA", Size(4), Size(600)))
    with pytest.raises(BadInput, match="no layer is left to train: choose other targets, or give convolutions a rank"):
        AdapterPupil(base, Growth(), {"unet": ("conv_in",)}, seed=1)
    with pytest.raises(BadInput, match=r"target 'attn9': no layer of the U-Net has that in its name"):
        AdapterPupil(base, Growth(), {"unet": ("attn9",)}, seed=1)
    with pytest.raises(BadInput, match=r"target '\(': is no regular expression"):
        AdapterPupil(base, Growth(), {"unet": ("(",)}, seed=1)


def test_a_plain_lora_computes_beside_its_layers_and_all_others_in_them(base: Base) -> None:
    hows = {kind: grown(base, Growth(kind)).adapters["unet"].how for kind in PLAIN}
    assert hows == {kind: "hook" if kind == "LoRA" else "fold" for kind in PLAIN}
    assert grown(base, Growth("LoRA", lengths=True)).adapters["unet"].how == "fold"
