"""A training on several processes is the same training: started by torchrun, and one share after the other here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import training_support as support
from atelier.errors import AtelierError, BadInput
from atelier.request.events import Failed, Finished, MemoryForecast, Stepped, TimeForecast
from atelier.train import checkpoint
from atelier.train.batches import Order
from atelier.train.descent import Descent, slices
from atelier.train.loop import Placement
from atelier.train.runner import run_recipe
from atelier.train.world import ALONE, World, joined, own_device

CPU = torch.device("cpu")
HERE = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("one_thread", "no_charts")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(support.draw_images(tmp_path_factory.mktemp("data") / "pictures"))


# Shares


def test_processes_share_what_one_would_see() -> None:
    whole = Order(10, 6, seed=1)
    shares = [Order(10, 6, seed=1, rank=rank, world=3) for rank in range(3)]
    for step in range(4):
        assert [i for share in shares for i in share.indices(step)] == whole.indices(step)
    assert [World(rank, 3).rows(6) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert World(1, 3).own(torch.arange(6)).tolist() == [2, 3]
    assert ALONE.first
    assert not World(1, 2).first


def test_a_batch_in_parts() -> None:
    assert slices(6, 3) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert slices(5, 2) == [slice(0, 2), slice(2, 5)]
    assert slices(1, 3) == [slice(0, 1)]


def test_the_environment_says_who_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with joined(CPU, {}) as world:
        assert world is ALONE
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert own_device(CPU, {"LOCAL_RANK": "1"}) == CPU
    cuda = torch.device("cuda")
    assert own_device(cuda, {}) is cuda
    assert own_device(cuda, {"LOCAL_RANK": "1"}) == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    with (
        pytest.raises(BadInput, match="was built without torch"),
        joined(CPU, {"WORLD_SIZE": "2"}),
    ):
        pass


def test_the_second_process_writes_and_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []
    monkeypatch.setattr(World, "add", lambda *_: None)
    monkeypatch.setattr(World, "meet", lambda _: met.append("here"))
    placement = Placement(CPU, torch.float32, World(1, 2))
    spec = support.known()["line"]
    events = list(run_recipe(spec, support.recipe("line"), placement, tmp_path / "run"))
    assert {type(event) for event in events} == {MemoryForecast, TimeForecast, Stepped, Finished}
    assert not (tmp_path / "run").exists()
    assert met == ["here"] * 2, "when the folder is claimed, and when all have read it"


def test_who_waits_for_a_process_that_is_gone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "all_reduce", gone)
    monkeypatch.setattr(torch.distributed, "barrier", gone)
    for wait in (World(0, 2).meet, lambda: World(0, 2).add([torch.zeros(1)])):
        with pytest.raises(AtelierError, match="another process of this training has ended"):
            wait()


# Gradients


def in_double(net: nn.Module) -> None:
    """Makes its layers compute in double precision, so that sums differ by what is summed and not by their order."""
    for layer in net.double().modules():
        layer.register_forward_pre_hook(lambda _, given: tuple(doubled(value) for value in given))


def doubled(value: object) -> object:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def gradients(changes: dict[str, Any], folder: Path, world: World = ALONE, step: int = 3) -> dict[str, Tensor]:
    """Those of a step of the denoiser, not bounded; of one process among several its share."""
    recipe = support.recipe("denoiser", {**changes, "optim.clip": 1e6, "optim.text_gain": 0.0})
    placement = Placement(CPU, torch.float32, world)
    task = support.known()["denoiser"].build(recipe, placement, folder)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in task.unet.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    in_double(task.unet)
    losses = task.update(step, task.maker(step))
    made = {name: p.grad for name, p in task.unet.named_parameters() if p.grad is not None}
    return {**made, **{name: losses[name] for name in ("loss", "norm")}}


EVERYTHING = {
    "noise.offset": 0.1,
    "noise.pyramid": 2,
    "noise.perturbation": 0.2,
    "times.draw": "uniform",
    "times.density": "logit_normal",
    "loss.drop": 0.4,
    "loss.detail": 1.0,
    "run.batch": 8,
}


def alike(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], rtol=tolerance, atol=tolerance * float(value.abs().max())), name


def test_parts_and_processes_give_the_gradients_of_the_whole_batch(
    source: str, parts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"data.source": source, **parts, **EVERYTHING}
    whole = gradients(changes, tmp_path)
    assert float(whole["norm"]) > 0
    alike(whole, gradients({**changes, "run.accumulate": 4}, tmp_path), 1e-6)
    plain = gradients({"data.source": source, **parts, "run.batch": 8}, tmp_path)
    assert abs(float(plain["loss"] / whole["loss"]) - 1) > 1e-3, "what is drawn counts"
    monkeypatch.setattr(World, "add", lambda *_: None)
    monkeypatch.setattr("atelier.train.descent.clipped", lambda *_: torch.zeros(()))
    shares = [gradients({**changes, "run.accumulate": 2}, tmp_path, World(rank, 2)) for rank in range(2)]
    together = {name: shares[0][name] + shares[1][name] for name in shares[0]}
    alike({**whole, "norm": torch.zeros(())}, together, 1e-6)


def test_every_number_of_noise_and_times_is_felt(source: str, parts: dict[str, str], tmp_path: Path) -> None:
    changes = {"data.source": source, **parts, "run.batch": 8}
    task = support.task(support.recipe("denoiser", changes), tmp_path)
    with torch.no_grad():
        task.unet.conv_out.weight.normal_()
    batch = task.maker(0)
    tables = (
        {"noise.offset": 0.5},
        {"noise.pyramid": 3},
        {"noise.pyramid": 3, "noise.discount": 0.9},
        {"noise.perturbation": 0.5},
        {"times.draw": "uniform"},
        {"times.density": "logit_normal"},
        {"times.density": "logit_normal", "times.mean": 2.0},
        {"times.density": "logit_normal", "times.deviation": 0.2},
        {"times.least": 0.6},
        {"times.most": 0.2},
        {},
    )
    found: list[float] = []
    for more in tables:
        task.recipe = support.recipe("denoiser", {**changes, **more})
        found.append(round(float(task.dry(batch).detach()), 6))
    assert len(set(found)) == len(tables), found


def test_processes_add_what_they_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(flat: Tensor) -> None:
        flat.mul_(2)

    monkeypatch.setattr(torch.distributed, "all_reduce", doubled)
    tensors = [torch.arange(6.0).view(2, 3), torch.ones(())]
    World(0, 2).add(tensors)
    assert tensors[0].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert float(tensors[1]) == 2
    assert World(0, 2).any(said=True, device=CPU)
    assert not World(0, 2).any(said=False, device=CPU)
    line = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(line.parameters(), lr=1.0)
    before = line.weight.detach().clone()
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    made = Descent({"line": optimizer}, limit=1e6, world=World(0, 2)).step(
        2, lambda rows: nullcontext(line(x[rows])[:, 0])
    )
    assert torch.allclose(before - line.weight, x.mean(0)[None]), "twice a half"
    assert float(made["norm"]) == pytest.approx(float(x.mean(0).norm()))


# What cannot be divided


@pytest.mark.parametrize(
    ("kind", "changes", "world", "told"),
    [
        ("clip", {"run.accumulate": 2}, ALONE, "run.accumulate = 2: clip learns from a batch as a whole; set it to 1"),
        ("vae", {}, World(0, 2), "vae learns from a batch as a whole: train it in one process, without torchrun"),
        ("line", {"run.accumulate": 2}, World(0, 3), r"run.batch = 8: not divisible by 3 processes times run.accumul"),
    ],
)
def test_it_is_refused(kind: str, changes: dict[str, Any], world: World, told: str, tmp_path: Path) -> None:
    spec, recipe = support.known()[kind], support.recipe(kind, changes)
    (only,) = run_recipe(spec, recipe, Placement(CPU, torch.float32, world), tmp_path / "run")
    assert isinstance(only, Failed)
    assert str(only.error).startswith(told.replace("\\", ""))
    assert not (tmp_path / "run").exists()


def test_parts_of_a_batch_are_equal() -> None:
    with pytest.raises(BadInput, match=r"run.batch: 4 is not divisible by run.accumulate, 3"):
        support.recipe("vae", {"run.accumulate": 3})


# torchrun


def started(processes: int, folder: Path, *sets: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = (sys.executable, str(HERE / "outside" / "line_command.py"))
    if processes > 1:
        launcher = ("-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone")
        command = (sys.executable, *launcher, *command[1:])
    path = os.pathsep.join([str(HERE), str(HERE.parent / "src")])
    arguments = ("line", "--out", str(folder), "--device=cpu", *(f"--set={each}" for each in sets))
    return subprocess.run(
        [*command, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def newest(folder: Path) -> dict[str, Tensor]:
    path = checkpoint.newest(folder / "checkpoints")
    assert path is not None
    snapshot = checkpoint.load(path)
    assert snapshot.step == 9
    return {f"{stem}.{name}": t for stem, named in snapshot.tensors.items() for name, t in named.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="gloo over sockets, as torchrun sets it up there")
def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    """And killed after a checkpoint, the two go on to the same bits. Only the first writes and tells."""
    one, two = tmp_path / "one", tmp_path / "two"
    support.trained(support.recipe("line", {"run.threads": 1}), one)
    finished = started(2, two, "run.threads=1", "run.keep=3")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"{two / 'line.json'}\n"
    assert finished.stderr.count("saved ") == 4, "at steps 3, 6 and 9, and where the rate begins to fall"
    alone, together = newest(one), newest(two)
    alike(alone, together, 1e-5)
    rows, expected = support.log(two), support.log(one)
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    unbroken = support.result(two)
    for step in (6, 8, 9):
        shutil.rmtree(two / "checkpoints" / f"step-0000000{step}")
    again = started(2, two, "run.threads=1", "run.keep=3")
    assert "going on from step 3" in again.stderr
    assert support.result(two) == unbroken
