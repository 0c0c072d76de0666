"""The one training loop: an iterator of events over a task, exact across kills and resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.errors import BadInput, NotFinite
from atelier.train import checkpoint
from atelier.train.ema import Ema
from atelier.train.logbook import Logbook
from atelier.train.pace import Pace
from atelier.train.prefetch import Prefetch
from atelier.train.recipe import Optim, Run


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the arithmetic runs. dtype: of the matrix products; weights stay in float32."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


@dataclass(frozen=True, slots=True)
class Validation:
    """Numbers and pictures of one validation."""

    numbers: Mapping[str, float]
    pictures: Mapping[str, Image.Image]


class Task(Protocol):
    """What is being trained. `nets` are saved and averaged; `aids` (a discriminator) are saved only."""

    @property
    def nets(self) -> Mapping[str, nn.Module]: ...
    @property
    def aids(self) -> Mapping[str, nn.Module]: ...
    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...
    @property
    def digest(self) -> str: ...
    @property
    def maker(self) -> Callable[[int], Any]:
        """Picklable and pure: the batch of a step."""
        ...

    def update(self, step: int, batch: Any) -> Mapping[str, Tensor]:
        """One step of every optimizer; returns the losses."""
        ...

    def validate(self, step: int) -> Validation: ...

    def extra(self) -> Mapping[str, Any]:
        """Small JSON values that belong in the checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class Stepped:
    step: int
    total: int
    losses: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Validated:
    step: int
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Saved:
    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Resumed:
    step: int
    path: Path


Event = Stepped | Validated | Saved | Resumed


def train(
    task: Task, run: Run, optim: Optim, folder: Path, stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """Trains from the newest whole checkpoint in `folder` (or from nothing) to run.steps.

    Yields an event after every step, validation and save. `stop` is asked between steps; when it says so, the run
    saves a checkpoint and ends. Raises NotFinite at a loss that is not a number, BadInput when the folder holds a run
    of another recipe, StorageFull when a checkpoint does not fit (earlier ones stay).
    """
    pace = Pace(run.steps, optim.warmup, int(run.steps * optim.cooldown))
    averages = {name: Ema(net, optim.ema) for name, net in task.nets.items()}
    saved = checkpoint.newest(folder / "checkpoints")
    first = 0
    if saved is not None:
        first = _restore(task, averages, saved)
        yield Resumed(first, saved)
    log = Logbook(folder, first)
    with Prefetch(task.maker, first, run.workers) as batches:
        started = time.monotonic()
        for step in range(first, run.steps):
            _set_rates(task, pace.factor(step))
            losses = _checked(step, task.update(step, batches.take()), saved)
            for name, average in averages.items():
                average.update(task.nets[name], step)
            done = step + 1
            yield Stepped(done, run.steps, losses)
            if done % run.log_every == 0 or done == run.steps:
                log.add(done, losses)
            if done % run.validate_every == 0 or done == run.steps:
                numbers = {**_validated(task, averages, done, log), "seconds": time.monotonic() - started}
                log.add(done, numbers)
                yield Validated(done, numbers)
            ending = stop()
            if done % run.checkpoint_every == 0 or done == run.steps or ending:
                saved = checkpoint.save(folder / "checkpoints", _snapshot(task, averages, done), run.keep)
                log.curves()
                yield Saved(done, saved)
            if ending:
                break
    log.close()


@contextmanager
def averaged(task: Task, averages: Mapping[str, Ema]) -> Iterator[None]:
    """Inside, the networks carry their averaged weights."""
    own: list[tuple[Tensor, Tensor]] = []
    for name, net in task.nets.items():
        for key, parameter in net.named_parameters():
            own.append((parameter, parameter.data))
            parameter.data = averages[name].average[key]
        net.eval()
    try:
        yield
    finally:
        for parameter, data in own:
            parameter.data = data
        for net in task.nets.values():
            net.train()


def _set_rates(task: Task, factor: float) -> None:
    for optimizer in task.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * factor


def _checked(step: int, losses: Mapping[str, Tensor], saved: Path | None) -> dict[str, float]:
    numbers = {name: float(value) for name, value in losses.items()}
    for name, value in numbers.items():
        if not math.isfinite(value):
            way = f"resume from {saved} with a lower optim.rate" if saved else "start again with a lower optim.rate"
            raise NotFinite(f"step {step + 1}: {name} is {value}; {way}")
    return numbers


def _validated(task: Task, averages: Mapping[str, Ema], step: int, log: Logbook) -> Mapping[str, float]:
    with averaged(task, averages), torch.no_grad():
        result = task.validate(step)
    for name, picture in result.pictures.items():
        log.picture(step, name, picture)
    return result.numbers


def _snapshot(task: Task, averages: Mapping[str, Ema], step: int) -> checkpoint.Snapshot:
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for name, net in {**task.nets, **task.aids}.items():
        tensors[name] = net.state_dict()
    for name, ema in averages.items():
        tensors[f"{name}.ema"] = ema.average
    for name, optimizer in task.optimizers.items():
        tensors[f"{name}.optimizer"] = _optimizer_tensors(optimizer)
    return checkpoint.Snapshot(step, tensors, {"recipe": task.digest, **task.extra()})


def _restore(task: Task, averages: Mapping[str, Ema], path: Path) -> int:
    snapshot = checkpoint.load(path)
    if snapshot.state["recipe"] != task.digest:
        raise BadInput(
            f"{path.parent.parent}: holds a run of another recipe; give another --out, or the recipe it began with"
        )
    for name, net in {**task.nets, **task.aids}.items():
        net.load_state_dict(snapshot.tensors[name])
    for name, ema in averages.items():
        for key, average in ema.average.items():
            average.copy_(snapshot.tensors[f"{name}.ema"][key])
    for name, optimizer in task.optimizers.items():
        _restore_optimizer(optimizer, snapshot.tensors[f"{name}.optimizer"])
    return snapshot.step


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, values in state.items() for key, value in values.items()}


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Into tensors laid out like the parameters: a fused step reads both in memory order."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        shaped = value if value.shape != parameter.shape else torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][key] = shaped
