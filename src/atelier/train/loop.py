"""The one training loop: an iterator of events over a task, exact across kills and resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.errors import AtelierError, BadFile, BadInput, NotFinite
from atelier.train import checkpoint
from atelier.train.ema import Ema
from atelier.train.folder import refuse_changes, writing
from atelier.train.logbook import Logbook
from atelier.train.pace import Pace
from atelier.train.prefetch import Prefetch
from atelier.train.recipe import Optim, Run

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Placement:
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


class Task(Protocol[B]):
    """What is being trained, on batches of type B. `nets` are saved and averaged; `aids` (a critic) are saved only."""

    @property
    def nets(self) -> Mapping[str, nn.Module]: ...
    @property
    def aids(self) -> Mapping[str, nn.Module]: ...
    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...
    @property
    def identity(self) -> str:
        """Names what must not change while a run goes on."""
        ...

    @property
    def maker(self) -> Callable[[int], B]:
        """Picklable and pure: the batch of a step."""
        ...

    def begin(self) -> None:
        """Before the first step of all: fills the networks with what the recipe goes on from. Raises BadInput."""
        ...

    def update(self, step: int, batch: B, /) -> Mapping[str, Tensor]:
        """One step of every optimizer; returns the losses, scalars, "loss" among them."""
        ...

    def validate(self) -> Validation:
        """Measures the networks as they are, without gradients."""
        ...

    def extra(self) -> Mapping[str, Any]:
        """Small JSON values that are kept in the checkpoint and must be the same when the run goes on."""
        ...


@dataclass(frozen=True, slots=True)
class Stepped:
    """Optimizer step `step` of `total` was made."""

    step: int
    total: int
    losses: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Validated:
    """The averaged networks were measured after `step` steps."""

    step: int
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Saved:
    """The checkpoint of `step` lies whole at `path`."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run goes on after `step` steps. passed_over: newer checkpoints that are damaged."""

    step: int
    path: Path
    passed_over: tuple[Path, ...] = ()


Event = Stepped | Validated | Saved | Resumed


def train(
    task: Task[Any],
    run: Run,
    optim: Optim,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    *,
    accept_changes: bool = False,
) -> Iterator[Event]:
    """Trains from the newest whole checkpoint in `folder` (or from nothing) to run.steps.

    Yields an event after every step, validation and save. `stop` is asked between steps and while a step waits for its
    data; when it says so, the run saves a checkpoint and ends. Raises NotFinite at a loss that is not a number,
    BadInput when the folder holds a run of another recipe and its changes are not accepted, StorageFull when a
    checkpoint does not fit (earlier ones stay), BadFile.
    """
    with writing(folder):
        course = _Course(task, run, optim, folder)
        if (resumed := course.resume(accept_changes=accept_changes)) is not None:
            yield resumed
        with closing(Logbook(folder, course.done)) as log, Prefetch(task.maker, course.done, run.workers) as batches:
            yield from course.events(batches, log, stop)


class _Course:
    """One training under way: `done` steps are made, `saved` is the checkpoint to go back to."""

    def __init__(self, task: Task[Any], run: Run, optim: Optim, folder: Path) -> None:
        self.task, self.run, self.folder = task, run, folder
        self.pace = Pace(run.steps, optim.warmup, int(run.steps * optim.cooldown))
        self.saved = checkpoint.newest(folder / checkpoint.FOLDER)
        if self.saved is None:
            task.begin()
        self.averages = {name: Ema(net, optim.ema) for name, net in task.nets.items()}
        self.done, self.kept = 0, 0

    def resume(self, *, accept_changes: bool) -> Resumed | None:
        if self.saved is None:
            return None
        self.done = self.kept = _restore(self.task, self.averages, self.saved, accept_changes=accept_changes)
        return Resumed(self.done, self.saved, checkpoint.after(self.folder / checkpoint.FOLDER, self.saved))

    def events(self, batches: Prefetch[Any], log: Logbook, stop: Callable[[], bool]) -> Iterator[Event]:
        started = time.monotonic() - log.seconds
        while self.done < self.run.steps and not stop():
            batch = batches.take(stop)
            if batch is None:
                break
            losses = self._step(batch)
            yield Stepped(self.done, self.run.steps, losses)
            if self._due(self.run.log_every):
                log.add(self.done, losses)
            if self._due(self.run.validate_every):
                numbers = {**self._validated(log), "seconds": time.monotonic() - started}
                log.add(self.done, numbers)
                yield Validated(self.done, numbers)
            if self._due(self.run.checkpoint_every) or self.done == self.pace.constant_until:
                yield self._save(log)
        if self.done > self.kept:
            yield self._save(log)

    def _due(self, every: int) -> bool:
        return self.done % every == 0 or self.done == self.run.steps

    def _step(self, batch: object) -> dict[str, float]:
        for optimizer in self.task.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * self.pace.factor(self.done)
        try:
            losses = {name: float(value) for name, value in self.task.update(self.done, batch).items()}
        except torch.OutOfMemoryError as error:
            raise AtelierError(
                f"step {self.done + 1}: the device's memory is full; train with a smaller run.batch or model"
            ) from error
        for name, value in losses.items():
            if not math.isfinite(value):
                raise NotFinite(f"step {self.done + 1}: {name} is {value}; {self._way_back()}")
        for name, average in self.averages.items():
            average.update(self.task.nets[name], self.done)
        self.done += 1
        return losses

    def _way_back(self) -> str:
        if self.saved is None:
            return "there is no checkpoint yet: start again with a lower optim.rate"
        return f"the last good checkpoint is {self.saved}: go on from it with a lower optim.rate and --accept-changes"

    def _validated(self, log: Logbook) -> Mapping[str, float]:
        with averaged(self.task, self.averages), torch.no_grad():
            result = self.task.validate()
        for name, picture in result.pictures.items():
            log.picture(self.done, name, picture)
        return result.numbers

    def _save(self, log: Logbook) -> Saved:
        """The checkpoint before the cool-down stays: from there the run can be made longer."""
        snapshot = _snapshot(self.task, self.averages, self.done)
        self.saved = checkpoint.save(
            self.folder / checkpoint.FOLDER, snapshot, self.run.keep, spare=self.pace.constant_until
        )
        self.kept = self.done
        log.curves()
        return Saved(self.done, self.saved)


@contextmanager
def averaged(task: Task[Any], averages: Mapping[str, Ema]) -> Generator[None]:
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


def _snapshot(task: Task[Any], averages: Mapping[str, Ema], step: int) -> checkpoint.Snapshot:
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for name, net in {**task.nets, **task.aids}.items():
        tensors[name] = net.state_dict()
    for name, ema in averages.items():
        tensors[f"{name}.ema"] = ema.average
    for name, optimizer in task.optimizers.items():
        tensors[f"{name}.optimizer"] = _optimizer_tensors(optimizer)
    return checkpoint.Snapshot(step, tensors, {"recipe": task.identity, **task.extra()})


def _restore(task: Task[Any], averages: Mapping[str, Ema], path: Path, *, accept_changes: bool) -> int:
    snapshot, folder = checkpoint.load(path), path.parent.parent
    if not accept_changes:
        _refuse_another_run(folder, str(snapshot.state.get("recipe")), task.identity)
        _refuse_other_parts(folder, snapshot.state, task.extra())
    for name, net in {**task.nets, **task.aids}.items():
        _fill(path, name, net.state_dict(), snapshot)
    for name, ema in averages.items():
        _fill(path, f"{name}.ema", ema.average, snapshot)
    for name, optimizer in task.optimizers.items():
        _restore_optimizer(path, optimizer, snapshot.tensors.get(f"{name}.optimizer", {}))
    return snapshot.step


def _refuse_another_run(folder: Path, stored: str, own: str) -> None:
    if stored != own:
        same_recipe = stored.partition("-")[0] == own.partition("-")[0]
        refuse_changes(folder, ["its pictures were others" if same_recipe else f"digest {stored}, not {own}"])


def _refuse_other_parts(folder: Path, state: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    for name, value in extra.items():
        if state.get(name, value) != value:
            raise BadInput(
                f"{folder}: {name} is no longer what this run began with: give another --out, put the earlier one "
                "back, or --accept-changes to go on"
            )


def _fill(path: Path, stem: str, own: Mapping[str, Tensor], snapshot: checkpoint.Snapshot) -> None:
    """Copies a checkpoint's tensors into `own`, which keep their place and layout. Raises BadFile unless all fit."""
    stored = snapshot.tensors.get(stem, {})
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in stored.items()}:
        raise BadFile(path, f"holds no {stem} of this recipe's shape; give another --out")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, values in state.items() for key, value in values.items()}


def _restore_optimizer(path: Path, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Into tensors that lie like the parameters: a fused step reads both in memory order, on one device."""
    parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)] if int(index) < len(parameters) else None
        if parameter is None or value.shape not in {(), parameter.shape}:
            raise BadFile(path, "holds the optimizer of other parameters; give another --out")
        alike = value.shape == parameter.shape
        here = torch.empty_like(parameter).copy_(value) if alike else value.to(parameter.device)
        optimizer.state[parameter][key] = here
