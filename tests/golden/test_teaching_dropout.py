"""A step with dropout against the same step written by hand, and what dropout must not depend on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import taught_support as teaching
import training_support as support
from atelier.errors import BadFile, Interrupted
from atelier.request.events import Stepped
from atelier.train import randomness
from atelier.train.loop import Placement
from atelier.train.tasks.teaching import TeachingTask, caption_of
from atelier.train.teaching.base import conditioning_of
from atelier.train.teaching.dropout import Draw, Dropout
from atelier.train.world import World

pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")
SEED, STEP, BATCH, RANK, ALPHA = 5, 3, 4, 4, 2.0
HIDDEN, RANKS, MODULES = 0.25, 0.5, 0.4
ALL = {"adapter__dropout": HIDDEN, "adapter__rank_dropout": RANKS, "adapter__module_dropout": MODULES}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.images(tmp_path_factory.mktemp("data") / "images", 5)


def made(base: Path, images: Path, folder: Path, **more: Any) -> TeachingTask:
    numbers = {"run__batch": BATCH, "run__seed": SEED, "optim__clip": 1e6, **more}
    task = teaching.task("lora", teaching.changes("lora", base, images, **numbers), folder)
    teaching.shake(task, size=0.05)
    return task


def same(ours: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert ours.keys() == wanted.keys()
    largest = max(float(tensor.norm()) for tensor in wanted.values())
    for name, tensor in wanted.items():
        assert float((ours[name] - tensor).norm()) <= 1e-5 * (float(tensor.norm()) + largest), name


def by_hand(task: TeachingTask) -> dict[str, Tensor]:
    """The gradients of the step: kohya's forward of a layer (networks/lora.py) with masks drawn again here."""
    (adapter,) = task.pupil.adapters.values()  # type: ignore[attr-defined]
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    handles: list[Any] = []

    def uniform(shape: tuple[int, ...], *key: object) -> Tensor:
        return randomness.uniform(shape, SEED, *key)  # type: ignore[arg-type]

    for place in adapter.places:
        layer = adapter.layers[place.name]
        down, up = (getattr(layer, slot).detach().clone().requires_grad_() for slot in ("down", "up"))
        factors[place.name] = down, up
        if uniform((1,), "module dropout", STEP, place.name) < MODULES:
            continue

        def hook(
            _: nn.Module,
            args: tuple[Tensor],
            output: Tensor,
            name: str = place.name,
            down: Tensor = down,
            up: Tensor = up,
        ) -> Tensor:
            lx = F.linear(args[0], down) if args[0].ndim == 3 else F.conv2d(args[0], down)
            rows: list[Tensor] = []
            for image, row in enumerate(lx):
                key = ("dropout", STEP, name, image)
                kept = (uniform((1, *row.shape), *key)[0] >= HIDDEN).float() / (1 - HIDDEN)
                ranks = (uniform((1, RANK), *key, "rank")[0] >= RANKS).float()
                rows.append(row * kept * (ranks[:, None, None] if row.ndim == 3 else ranks))
            scale = ALPHA / RANK / (1 - RANKS)
            hidden = torch.stack(rows)
            return output + scale * (F.linear(hidden, up) if hidden.ndim == 3 else F.conv2d(hidden, up))

        handles.append(task.base.net.get_submodule(place.module).register_forward_hook(hook))
    batch = task.maker(STEP)
    drawn = task._noised(STEP, batch)
    said = conditioning_of(task.base, task.base.encoder, [caption_of(own) for own in batch])
    task._losses(drawn, said, batch).mean().backward()
    for handle in handles:
        handle.remove()
    named: dict[str, Tensor] = {}
    for name, pair in factors.items():
        for slot, tensor in zip(("down", "up"), pair, strict=True):
            if tensor.grad is not None:
                named[f"unet.layers.{name}.{slot}"] = tensor.grad
    return named


def stepped(task: TeachingTask) -> dict[str, Tensor]:
    with teaching.standing(task):
        task.update(STEP, task.maker(STEP))
    found = teaching.learning(task)
    return {name: p.grad.clone() for name, p in found.items() if p.grad is not None}


@pytest.mark.parametrize("layers", ["attention", "transformer"])
def test_a_step_is_that_of_the_formulas(layers: str, tiny_file: Path, images: Path, tmp_path: Path) -> None:
    """With layers that are linear, and with convolutions of one pixel (proj_in)."""
    task = made(tiny_file, images, tmp_path, **ALL, targets__layers=layers)
    own = stepped(task)
    wanted = by_hand(task)
    same(own, wanted)
    assert 0 < len(own) < len(teaching.learning(task)), "some layers are left out"
    plain = stepped(made(tiny_file, images, tmp_path, targets__layers=layers))
    assert any(not torch.allclose(tensor, plain[name], rtol=0.1) for name, tensor in own.items())


def test_at_0_no_bit_changes_and_nothing_is_drawn(
    tiny_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = stepped(made(tiny_file, images, tmp_path))
    monkeypatch.setattr("atelier.train.teaching.dropout.randomness", None)
    own = stepped(made(tiny_file, images, tmp_path, **dict.fromkeys(ALL, 0.0)))
    assert all(torch.equal(tensor, plain[name]) for name, tensor in own.items())


WAYS: Mapping[str, Mapping[str, Any]] = {
    "checkpointing": {"run__checkpointing": True},
    "four parts": {"run__accumulate": 4},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", [False, True])
def test_it_is_the_same_however_a_step_is_computed(
    way: str, text: bool, tiny_file: Path, images: Path, tmp_path: Path
) -> None:
    more = {**ALL, "targets__text": text}
    wanted = stepped(made(tiny_file, images, tmp_path, **more))
    same(stepped(made(tiny_file, images, tmp_path, **more, **WAYS[way])), wanted)


def test_processes_draw_for_their_own_images(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    """The sum of what two processes find, without anything between them, is what one finds."""
    wanted = stepped(made(tiny_file, images, tmp_path, **ALL))
    numbers = {"run__batch": BATCH, "run__seed": SEED, "optim__clip": 1e6, **ALL}
    total: dict[str, Tensor] = {}
    for rank in range(2):
        world = _Apart(rank, 2)
        placement = Placement(torch.device("cpu"), torch.float32, world)
        task = teaching.task("lora", teaching.changes("lora", tiny_file, images, **numbers), tmp_path, placement)
        teaching.shake(task, size=0.05)
        for name, tensor in stepped(task).items():
            total[name] = total.get(name, torch.zeros_like(tensor)) + tensor
    same(total, wanted)


class _Apart(World):
    """One of two processes, of which nobody adds up what they have."""

    def add(self, tensors: object) -> None: ...

    def meet(self) -> None: ...


def test_other_steps_draw_others(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    hidden = torch.ones(2, 6, RANK)

    def left(step: int, layer: str, images: range = range(2)) -> Tensor:
        dropped = Dropout(0.5, 0.5).drawn(Draw(SEED, step, images))
        assert dropped is not None
        return dropped.hidden(layer, hidden[: len(images)])

    shown = {(step, layer): left(step, layer) for step in range(2) for layer in ("a", "b")}
    every = list(shown.values())
    assert all(not torch.equal(one, other) for n, one in enumerate(every) for other in every[:n])
    assert not torch.equal(every[0][0], every[0][1]), "each image has its own"
    assert torch.equal(left(0, "a", range(1, 2))[0], shown[0, "a"][1])


def test_what_stays_is_as_much_larger() -> None:
    dropped = Dropout(hidden=0.2, rank=0.5).drawn(Draw(1, 1, range(200)))
    assert dropped is not None
    found = dropped.hidden("layer", torch.ones(200, 8, 5, 5))
    assert found.unique().tolist() == pytest.approx([0.0, 1 / 0.8 / 0.5])
    assert float(found.mean()) == pytest.approx(1, abs=0.05)
    ranks = found.flatten(2).amax(-1) > 0
    assert 0.4 < float(ranks.float().mean()) < 0.6, "whole ranks"
    modules = Dropout(module=0.3).drawn(Draw(2, 2, range(1)))
    assert modules is not None
    assert 0.24 < sum(modules.whole(str(n)) for n in range(500)) / 500 < 0.36


def test_other_kinds_leave_layers_out(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    own = stepped(made(tiny_file, images, tmp_path, adapter__kind="LoKr", adapter__module_dropout=0.5))
    plain = stepped(made(tiny_file, images, tmp_path, adapter__kind="LoKr"))
    assert 0.3 < len(own) / len(plain) < 0.7


def test_a_broken_run_goes_on_to_the_same_bits(tiny_file: Path, images: Path, tmp_path: Path) -> None:
    changes = teaching.changes("lora", tiny_file, images, **ALL)
    support.trained(support.recipe("lora", changes), tmp_path / "whole")
    done: list[Stepped] = []

    def stop() -> bool:
        return len(done) == 3

    with suppress(Interrupted):
        for event in support.events(support.recipe("lora", changes), tmp_path / "broken", stop=stop):
            if isinstance(event, Stepped):
                done.append(event)  # noqa: PERF401 - stop looks at it meanwhile
    assert stop()
    support.trained(support.recipe("lora", changes), tmp_path / "broken")
    assert support.result(tmp_path / "broken") == support.result(tmp_path / "whole")


def test_kinds_without_ranks_are_told(tiny_file: Path, images: Path) -> None:
    for more in ({"adapter__kind": "LoKr"}, {"adapter__dora": True}):
        changes = teaching.changes("lora", tiny_file, images, **more, adapter__rank_dropout=0.1)
        with pytest.raises(BadFile, match="only LoRA without dora is computed through its ranks"):
            support.recipe("lora", changes)
