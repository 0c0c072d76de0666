"""What every optimizer must do, and what tells them apart."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.errors import BadFile, BadInput
from atelier.train import checkpoint, snapshot
from atelier.train.adamw8bit import codes, dequantized, quantized
from atelier.train.optimizer_kinds import OPTIMIZERS
from atelier.train.optimizers import Group, divided, grouped
from atelier.train.recipe import Optim, OptimizerKind

RATES = {"prodigy": 1.0, "adafactor": 0.05, "muon": 0.1, "sgd": 0.5, "lion": 0.02}
every = pytest.mark.parametrize("kind", OPTIMIZERS)
pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    """A matrix large enough for 8-bit states, a kernel as networks keep them, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(70, 64, generator=generator))
        self.kernel = nn.Parameter(
            torch.randn(4, 3, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last)
        )
        self.vector = nn.Parameter(torch.randn(7, generator=generator))

    def loss(self) -> Tensor:
        """A bowl, steeper along some directions."""
        parts = [((p - 1).square() * torch.linspace(0.5, 2, p.shape[-1])).mean() for p in self.parameters()]
        return torch.stack(parts).sum()


def optim(kind: Any, **more: Any) -> Optim:
    return Optim(kind=kind, rate=RATES.get(kind, 0.05), **more)


def made(net: Net, **more: Any) -> dict[str, Optimizer]:
    return grouped([Group("net", list(net.parameters()))], optim(**more), "net")


def step(net: Net, optimizers: Mapping[str, Optimizer]) -> float:
    net.zero_grad()
    loss = net.loss()
    loss.backward()
    for optimizer in optimizers.values():
        optimizer.step()
    return float(loss.detach())


def test_every_name_of_a_recipe_is_an_optimizer() -> None:
    assert tuple(OPTIMIZERS) == get_args(OptimizerKind)
    assert all(name == spec.name for name, spec in OPTIMIZERS.items())


@every
def test_it_goes_downhill(kind: str) -> None:
    net = Net()
    optimizers = made(net, kind=kind)
    before = net.loss().item()
    for _ in range(60):
        step(net, optimizers)
    assert net.loss().item() < before / 2


@every
def test_what_it_remembers_survives_a_checkpoint_bit_by_bit(kind: str, tmp_path: Path) -> None:
    def task() -> Any:
        net = Net()
        optimizers = made(net, kind=kind, weight_decay=0.1)
        return SimpleNamespace(net=net, nets={"net": net}, aids={}, optimizers=optimizers, identity="same", extra=dict)

    unbroken, broken = task(), task()
    for _ in range(7):
        step(unbroken.net, unbroken.optimizers)
    for _ in range(4):
        step(broken.net, broken.optimizers)
    path = checkpoint.save(tmp_path / "checkpoints", snapshot.take(broken, {}, "", 4), keep=1)
    resumed = task()
    assert snapshot.restore(resumed, {}, "", path, accept_changes=False) == 4
    for _ in range(3):
        step(resumed.net, resumed.optimizers)
    for name, parameter in unbroken.net.named_parameters():
        assert torch.equal(resumed.net.get_parameter(name), parameter), name
    ours, theirs = (snapshot.take(t, {}, "", 7).tensors for t in (resumed, unbroken))
    for stem, tensors in theirs.items():
        assert ours[stem].keys() == tensors.keys()
        assert all(torch.equal(ours[stem][name], tensors[name]) for name in tensors)
        assert all(ours[stem][name].dtype == tensors[name].dtype for name in tensors)
    other = task()
    other.optimizers = made(other.net, kind="sgd" if kind != "sgd" else "lion")
    with pytest.raises(BadFile, match=r"holds the state of other optimizers: put optim\.kind back"):
        snapshot.restore(other, {}, "", path, accept_changes=True)


@every
def test_decay_is_on_matrices_and_kernels_only(kind: str) -> None:
    nets = {decay: Net() for decay in (0.0, 0.5)}
    start = dict(Net().named_parameters())
    for decay, net in nets.items():
        step(net, made(net, kind=kind, weight_decay=decay))
    plain, decayed = nets[0.0], nets[0.5]
    assert torch.equal(plain.vector, decayed.vector)
    for name in ("matrix", "kernel"):
        difference = plain.get_parameter(name) - decayed.get_parameter(name)
        rate = {"prodigy": 1e-6, "sgd": 0.5 * 1.9}.get(kind, RATES.get(kind, 0.05))
        assert torch.allclose(difference, rate * 0.5 * start[name], rtol=1e-2, atol=2e-7), name


@every
def test_groups_have_rates_of_their_own(kind: str) -> None:
    net, other = Net(), Net()
    groups = [Group("fast", list(net.parameters())), Group("slow", list(other.parameters()), factor=0.25, decay=0.0)]
    if OPTIMIZERS[kind].one_rate:
        with pytest.raises(BadInput, match=rf'optim\.kind = "{kind}" finds one rate for all: give fast, slow the same'):
            grouped(groups, optim(kind), "both")
        return
    optimizers = grouped(groups, optim(kind, weight_decay=0.2), "both")
    rates = {(g["full_rate"], g["lr"], g["weight_decay"]) for o in optimizers.values() for g in o.param_groups}
    rate = RATES.get(kind, 0.05)
    assert rates == {(rate, rate, 0.2), (rate, rate, 0.0), (rate / 4, rate / 4, 0.0)}
    start = dict(Net().named_parameters())
    for n in (net, other):
        n.loss().backward()
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0
        optimizer.step()
    for name, before in start.items():
        fast, slow = (n.get_parameter(name).detach() - before.detach() for n in (net, other))
        assert torch.allclose(fast, 4 * slow, rtol=1e-3, atol=1e-6), name


def test_the_second_matrix_of_a_lora_has_a_rate_of_its_own() -> None:
    names = ("a.down", "a.up", "b.up.weight", "b.update")
    parameters = {name: nn.Parameter(torch.zeros(2, 2)) for name in names}
    rest, upper = divided(Group("unet", list(parameters.values()), 0.5, 0.1), parameters.items(), 16.0)
    assert [p is parameters[n] for p, n in zip(rest.parameters, ("a.down", "b.update"), strict=True)] == [True] * 2
    assert [p is parameters[n] for p, n in zip(upper.parameters, ("a.up", "b.up.weight"), strict=True)] == [True] * 2
    assert (rest.name, rest.factor, rest.decay) == ("unet", 0.5, 0.1)
    assert (upper.name, upper.factor, upper.decay) == ("unet.up", 8.0, 0.1)


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(BadInput, match=r"prodigyopt is not installed; pip install 'atelier\[train\]', or choose"):
        made(Net(), kind="prodigy")


def test_muon_leaves_vectors_to_adamw() -> None:
    muon, vectors = (made(Net(), kind="muon")[name] for name in ("net", "net.vectors"))
    assert [tuple(p.shape) for g in muon.param_groups for p in g["params"]] == [(70, 64), (4, 3, 3, 3)]
    assert [tuple(p.shape) for g in vectors.param_groups for p in g["params"]] == [(7,)]


def test_numbers_of_the_recipe_reach_it() -> None:
    more: dict[str, Any] = {"betas": (0.7, 0.8), "eps": 1e-3, "momentum": 0.6}
    for kind in ("adamw", "adamw8bit", "prodigy"):
        (optimizer,) = made(Net(), kind=kind, **more).values()
        assert optimizer.param_groups[0]["betas"] == (0.7, 0.8)
        assert optimizer.param_groups[0]["eps"] == 1e-3
    (prodigy,) = made(Net(), kind="prodigy", **more).values()
    assert prodigy.param_groups[0]["use_bias_correction"]
    assert prodigy.param_groups[0]["safeguard_warmup"]
    (sgd,) = made(Net(), kind="sgd", **more).values()
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["nesterov"]) == (0.6, True)
    (plain,) = made(Net(), kind="sgd", momentum=0.0).values()
    assert not plain.param_groups[0]["nesterov"]


def test_lion_is_its_paper() -> None:
    net, own = Net(), Net()
    optimizers = made(net, kind="lion", betas=(0.8, 0.6), weight_decay=0.3)
    momentum = {name: torch.zeros_like(p) for name, p in own.named_parameters()}
    for _ in range(4):
        step(net, optimizers)
        own.zero_grad()
        own.loss().backward()
        with torch.no_grad():
            for name, p in own.named_parameters():
                assert p.grad is not None
                update = torch.sign(0.8 * momentum[name] + 0.2 * p.grad) + (0.3 * p if p.ndim > 1 else 0)
                momentum[name] = 0.6 * momentum[name] + 0.4 * p.grad
                p.sub_(0.02 * update)
    for name, p in own.named_parameters():
        assert torch.allclose(net.get_parameter(name), p, atol=1e-6), name


def test_adamw_in_eight_bits_goes_as_adamw_does() -> None:
    """Exactly so where moments are not coded, of small parameters; where they are, as near as bitsandbytes', whose
    AdamW8bit is 0.0326 of the way off in the same steps."""
    net, own, start = Net(), Net(), Net()
    ours, theirs = (made(n, kind=k, weight_decay=0.1) for n, k in ((net, "adamw8bit"), (own, "adamw")))
    for _ in range(20):
        step(net, ours)
        step(own, theirs)
    for name, p in own.named_parameters():
        way = (p - start.get_parameter(name)).norm()
        share = (net.get_parameter(name) - p).norm() / way
        assert share < (0.033 if name == "matrix" else 1e-5), name
    (optimizer,) = ours.values()
    state = optimizer.state[net.matrix]
    assert {name: (value.dtype, value.shape) for name, value in state.items() if name != "step"} == {
        "first": (torch.uint8, (70, 64)),
        "first_scale": (torch.float32, (18,)),
        "second": (torch.uint8, (70, 64)),
        "second_scale": (torch.float32, (18,)),
    }


def test_codes_are_those_of_the_paper() -> None:
    """Of bitsandbytes' unsigned table the largest are 0.98945, 0.99648 and 1."""
    for signed in (True, False):
        table = codes(torch.device("cpu"), signed=signed)
        assert len(table) == 256
        assert bool((table[1:] > table[:-1]).all())
        assert 0 in table
        assert table[-1] == 1
    assert table[-3:].tolist() == pytest.approx([0.98945, 0.99648, 1.0], abs=1e-5)
    values = torch.randn(3, 100, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-6], [1.0], [1e3]])
    for signed in (True, False):
        given = values if signed else values.abs()
        code, scales = quantized(given, signed=signed)
        assert code.dtype == torch.uint8
        assert scales.tolist() == [float(given.flatten()[:256].abs().max()), float(given.flatten()[256:].abs().max())]
        back = dequantized(code, scales, signed=signed)
        worst = (back - given).abs().flatten() / scales.repeat_interleave(256)[:300]
        assert float(worst.max()) < (0.008 if signed else 0.004)
    zeros = torch.zeros(300)
    assert torch.equal(dequantized(*quantized(zeros, signed=True), signed=True), zeros)


def test_adafactor_is_that_of_torch_and_without_scaling_that_of_transformers() -> None:
    """transformers' adds to the squares what torch's adds to their means, far below either."""
    transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")
    for scale in (True, False):
        ours, theirs = Net(), Net()
        own = made(ours, kind="adafactor", scale_parameter=scale, weight_decay=0.1)
        groups = [
            {"params": [p], "weight_decay": 0.1 if p.ndim > 1 else 0.0, "lr": RATES["adafactor"]}
            for p in theirs.parameters()
        ]
        other: Optimizer = (
            torch.optim.Adafactor(groups)
            if scale
            else transformers.Adafactor(groups, scale_parameter=False, relative_step=False, warmup_init=False)
        )
        for _ in range(5):
            step(ours, own)
            step(theirs, {"net": other})
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter, theirs.get_parameter(name), rtol=1e-5, atol=1e-6, msg=name)


def test_adafactor_moves_what_begins_at_zero_as_far_as_all_else_for_adapters() -> None:
    for scale, least, most in ((True, 0.0, 0.002), (False, 0.5, 1.01)):
        net = nn.Linear(8, 6, bias=False)
        nn.init.zeros_(net.weight)
        optimizers = grouped([Group("net", list(net.parameters()))], optim("adafactor", scale_parameter=scale), "net")
        net.weight.grad = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
        for optimizer in optimizers.values():
            optimizer.step()
        assert least <= float(net.weight.detach().square().mean().sqrt()) / RATES["adafactor"] <= most


@pytest.mark.parametrize(("kind", "scales"), [("lora", False), ("inversion", False), ("dreambooth", True)])
def test_adapters_and_words_are_not_scaled(kind: str, scales: bool) -> None:
    from atelier.train.registry import read, recipes

    assert read(kind, recipes()[kind], {"data.source": "x"}).optim.scale_parameter is scales
