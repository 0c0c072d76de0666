"""Gradient checkpointing keeps less and changes nothing; and what a training is said to need before it starts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import taught_support as teaching
import training_support as support
from atelier.errors import BadInput
from atelier.models.clip import ClipText, TextSpec
from atelier.models.mmdit import MMDiT, MMDiTSpec
from atelier.models.t5 import T5Encoder, T5Spec
from atelier.models.unet import UNet, UNetSpec
from atelier.nn.ports import Conditioning
from atelier.request.events import Failed, MemoryForecast, Stepped, TimeForecast
from atelier.train import forecast
from atelier.train.forecast import Clock, Memory, activations, refuse_what_does_not_fit
from atelier.train.loop import Placement, train
from atelier.train.optimizer_kinds import OPTIMIZERS
from atelier.train.recipe import Optim
from atelier.train.recompute import recomputed

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(support.draw_images(tmp_path_factory.mktemp("data") / "pictures"))


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def unet(net: UNet) -> Tensor:
    return net(drawn(2, 4, 16, 16), torch.tensor([10.0, 500.0]), Conditioning(drawn(2, 5, 24))).square().mean()


def mmdit(net: MMDiT) -> Tensor:
    told = Conditioning(drawn(2, 5, 24), pooled=drawn(2, 12))
    return net(drawn(2, 4, 8, 8), torch.tensor([10.0, 500.0]), told).square().mean()


def text(net: ClipText | T5Encoder) -> Tensor:
    states = net(torch.arange(20).view(2, 10))
    return (states if isinstance(states, Tensor) else states.last).square().mean()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Tensor], int]] = {
    "unet": (
        lambda: UNet(UNetSpec(widths=(16, 32), depth=(1, 1), heads=(2, 2), context=24, groups=8, blocks=1)),
        unet,
        (1 + 1) * 2 + (2 + 2) * 2 + 3,
    ),
    "mmdit": (
        lambda: MMDiT(
            MMDiTSpec(in_channels=4, out_channels=4, width=32, depth=3, heads=2, context=24, pooled=12, side=8)
        ),
        mmdit,
        3,
    ),
    "clip": (lambda: ClipText(TextSpec(vocab=30, width=16, layers=3, heads=2, mlp=32, positions=10)), text, 3),
    "t5": (lambda: T5Encoder(T5Spec(vocab=30, width=16, layers=3, heads=2, inner=16, mlp=32)), text, 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_same_and_less_is_kept(name: str) -> None:
    make, loss, blocks = NETWORKS[name]
    torch.manual_seed(0)
    plain = make()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    again = copy.deepcopy(plain)
    assert recomputed(again) == blocks
    assert again.state_dict().keys() == plain.state_dict().keys()
    kept = [activations(lambda n=net: loss(n), [net]) for net in (plain, again)]
    assert 0 < kept[1] < kept[0] / 2
    for net in (plain, again):
        loss(net).backward()
    for key, parameter in plain.named_parameters():
        own = again.get_parameter(key).grad
        assert (parameter.grad is None) == (own is None), key
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, own, rtol=1e-5, atol=1e-7), key
    with torch.no_grad():
        assert torch.equal(loss(plain), loss(again))


@pytest.mark.parametrize("kind", support.KINDS)
def test_every_recipe_asks_for_it(kind: str, source: str, parts: dict[str, str], tmp_path: Path) -> None:
    """The same step, with less kept for it."""
    made: list[tuple[dict[str, Tensor], int]] = []
    for on in (False, True):
        changes = {"data.source": source, **(parts if kind == "denoiser" else {}), "run.checkpointing": on}
        task = support.task(support.recipe(kind, changes), tmp_path)
        batch = task.maker(0)
        (net,) = task.nets.values()
        kept = activations(lambda t=task, b=batch: t.dry(b), [net])
        task.update(0, batch)
        made.append((dict(net.named_parameters()), kept))
    (plain, more), (again, less) = made
    assert less < more
    assert all(torch.allclose(again[name], p, atol=1e-5) for name, p in plain.items())
    if kind == "denoiser":
        with pytest.raises(BadInput, match=r"compile and run\.checkpointing do not go together"):
            support.recipe("denoiser", {**parts, "run.checkpointing": True, "compile": True})


# The forecast


def test_what_the_backward_pass_finds_is_counted_once() -> None:
    """Of y = (w x)^2: x, 4 x 3 numbers, and w x, 4 x 2; the weight is no activation."""
    net = nn.Linear(3, 2, bias=False)
    x = torch.ones(4, 3)
    assert activations(lambda: net(x).square().sum(), [net]) == 4 * (4 * 3 + 4 * 2)
    assert activations(lambda: net(x).square().sum() + net(x.view(2, 2, 3)).sum(), [net]) == 4 * (4 * 3 + 4 * 2)


class Linear:
    """A task of one trained layer of 6 numbers, one that is not, a critic of 2, and a network of 20 beside them that is
    named twice."""

    def __init__(self) -> None:
        self.learned, still, self.critic, self.beside = (
            nn.Linear(3, 2, bias=False),
            nn.Linear(5, 2),
            nn.Linear(2, 1, bias=False),
            nn.Linear(10, 2, bias=False),
        )
        for parameter in (*still.parameters(), *self.beside.parameters()):
            parameter.requires_grad = False
        self.nets, self.aids = {"learned": self.learned, "still": still}, {"critic": self.critic}
        self.frozen = (self.beside, nn.Sequential(self.beside), self.learned)

    def dry(self, batch: Tensor) -> Tensor:
        torch.rand(1)
        return self.learned(batch[:1]).square().sum() + self.beside(torch.ones(10, requires_grad=True)).sum()


def test_memory_is_the_sum_of_its_parts() -> None:
    task = Linear()
    before = torch.random.get_rng_state()
    for kind, spec in OPTIMIZERS.items():
        found = forecast.memory(task, Optim(rate=1, kind=kind), torch.ones(7, 3), images=5)  # type: ignore[arg-type]
        assert found.weights == 4 * (6 + 12 + 2 + 20)
        assert found.gradients == 4 * (6 + 2)
        assert found.averages == 4 * 6
        assert found.optimizer == round((6 + 2) * spec.state)
        assert found.activations == 5 * 4 * (3 + 2)
        assert found.total == found.weights + found.gradients + found.averages + found.optimizer + found.activations
        assert found.parts["averages"] == found.averages
    assert torch.equal(torch.random.get_rng_state(), before), "nobody feels that somebody looked"
    assert forecast.memory(task, Optim(rate=1, ema=0), torch.ones(7, 3), images=5).averages == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_optimizers_remember_is_known(kind: str) -> None:
    """Bytes for a number of a large matrix, beside what a row, a column or a block takes."""
    from atelier.train.optimizers import Group, grouped

    parameter = nn.Parameter(torch.randn(256, 256, generator=torch.Generator().manual_seed(0)))
    optimizers = grouped([Group("net", [parameter])], Optim(rate=1, kind=kind))  # type: ignore[arg-type]
    parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers.values():
        optimizer.step()
    state = [v for optimizer in optimizers.values() for s in optimizer.state.values() for v in s.values()]
    size = sum(v.numel() * v.element_size() for v in state if isinstance(v, Tensor))
    assert size / parameter.numel() == pytest.approx(OPTIMIZERS[kind].state, abs=0.05)


def test_images_of_the_class_count_in_the_forecast(tiny_file: Path, tmp_path: Path) -> None:
    source, others = teaching.images(tmp_path / "images"), teaching.images(tmp_path / "class", 2)
    found: list[int] = []
    for more in ({}, {"data__class_source": str(others), "data__class_captions": ["a cat"]}):
        told = teaching.changes("lora", tiny_file, source, **more)
        first = next(iter(support.events(support.recipe("lora", told), tmp_path / f"run{len(found)}")))
        assert isinstance(first, MemoryForecast)
        found.append(first.parts["activations"])
    assert found[1] == pytest.approx(2 * found[0])


def test_what_clearly_does_not_fit_is_refused() -> None:
    needed = Memory(1_000_000_000, 500_000_000, 2_000_000_000, 0, 9_000_000_000)
    refuse_what_does_not_fit(needed, None)
    refuse_what_does_not_fit(needed, 10_000_000_000)
    with pytest.raises(BadInput, match=r"needs about 12\.5 GB of memory and 9\.0 GB are free: set run.checkpointing"):
        refuse_what_does_not_fit(needed, 9_000_000_000)
    with pytest.raises(BadInput, match=r'are free: set optim.kind = "adamw8bit"'):
        refuse_what_does_not_fit(Memory(1, 1, 10, 0, 2), 1)


def test_the_clock_speaks_once() -> None:
    clock = Clock()
    said = [clock.stepped(now, 100 - i) for i, now in enumerate((50.0, 52.0, 54.0, 56.0, 99.0))]
    assert said == [None, None, None, 2.0 * 97, None]


def test_a_run_forecasts_before_it_starts(tmp_path: Path) -> None:
    recipe = support.recipe("line", {"run.accumulate": 2})
    happened = support.trained(recipe, tmp_path / "run")
    first, *rest = happened
    assert isinstance(first, MemoryForecast)
    assert first.free is None
    assert first.parts["activations"] == 8 // 2 * 4 * 2, "x and the error, of half a batch"
    assert first.total == sum(first.parts.values())
    kinds = [type(event) for event in rest]
    assert kinds[:5] == [Stepped, Stepped, Stepped, type(rest[3]), Stepped]
    (said,) = (event for event in rest if isinstance(event, TimeForecast))
    assert said.steps == 5
    assert said.seconds > 0
    small = Placement(torch.device("cpu"), torch.float32, free=10)
    task = support.task(recipe, tmp_path)
    *_, last = train(task, recipe.run, recipe.optim, tmp_path / "small", placement=small)
    assert isinstance(last, Failed)
    assert "this training needs about 0.0 GB of memory" in str(last.error)
