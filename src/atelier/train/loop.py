"""The one training loop: an iterator of events over a task, exact across kills and resumes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.errors import AtelierError, Interrupted, NotFinite
from atelier.request.events import (
    CheckpointSaved,
    Failed,
    Finished,
    MemoryForecast,
    Resumed,
    Stepped,
    TimeForecast,
    TrainingEvent,
    Validated,
)
from atelier.train import checkpoint, forecast, snapshot
from atelier.train.ema import Ema
from atelier.train.folder import writing
from atelier.train.logbook import Logbook
from atelier.train.pace import pace
from atelier.train.prefetch import Prefetch
from atelier.train.recipe import Optim, Run
from atelier.train.trainable import base_digest
from atelier.train.world import ALONE, World

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the arithmetic runs. dtype: of the matrix products; weights stay in float32.

    world: the processes that share it; free: bytes of memory that the device had before, None where nobody knows.
    """

    device: torch.device
    dtype: torch.dtype
    world: World = ALONE
    free: int | None = None

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


HERE = Placement(torch.device("cpu"), torch.float32)


@dataclass(frozen=True, slots=True)
class Validation:
    """Numbers and images of one validation."""

    numbers: Mapping[str, float]
    images: Mapping[str, Image.Image]


class Task(Protocol[B]):
    """What is being trained, on batches of type B. `nets` are saved and averaged; `aids` (a critic) are saved only.

    Of both, only parameters with requires_grad are trained, and only they (and buffers) are kept in checkpoints.
    `frozen` are the networks that are in memory beside them, of which nothing is trained.
    """

    @property
    def nets(self) -> Mapping[str, nn.Module]: ...
    @property
    def aids(self) -> Mapping[str, nn.Module]: ...
    @property
    def frozen(self) -> Sequence[nn.Module]: ...
    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...
    @property
    def identity(self) -> str:
        """Names what must not change while a run goes on."""
        ...

    @property
    def maker(self) -> Callable[[int], B]:
        """Picklable and pure: the batch of a step; of several processes, this one's share of it."""
        ...

    def count(self, batch: B, /) -> int:
        """How many images it has, those that keep what is known among them."""
        ...

    def dry(self, batch: B, /) -> Tensor:
        """The loss of the first image of a batch, as a step computes it, for a forecast of memory; changes nothing."""
        ...

    def begin(self) -> None:
        """Fills the networks with what the recipe goes on from. Raises BadInput.

        Called before the first step of all; and, where parts of the networks are not trained, whenever a run goes on,
        before the trained ones are filled from its checkpoint.
        """
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


def train(
    task: Task[Any],
    run: Run,
    optim: Optim,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    *,
    placement: Placement = HERE,
    accept_changes: bool = False,
) -> Iterator[TrainingEvent]:
    """Trains from the newest whole checkpoint in `folder` (or from nothing) to run.steps.

    Yields a forecast of memory before the first step and of time after a few; an event after every step, validation and
    save; and Finished or Failed as the last. `stop` is asked between steps and while a step waits for its data; when it
    says so, the run saves a checkpoint and fails as Interrupted. Of several processes, the first alone validates, saves
    and writes, and tells of it. Other reasons to fail: NotFinite, a loss that is not a number; BadInput, the folder
    holds a run of another recipe and its changes are not accepted, or the device has clearly not enough memory;
    StorageFull, a checkpoint does not fit (earlier ones stay); BadFile.
    """
    started = time.monotonic()
    try:
        with writing(folder):
            course = _Course(task, run, optim, folder, placement)
            if (resumed := course.resume(accept_changes=accept_changes)) is not None:
                yield resumed
            placement.world.meet()  # all have read the checkpoint before the first writes another
            with (
                closing(Logbook(folder, course.done)) if placement.world.first else nullcontext() as log,
                Prefetch(task.maker, course.done, run.workers) as batches,
            ):
                yield from course.events(batches, log, stop)
        if course.done < run.steps:
            raise Interrupted(f"stopped at step {course.done}; the same command goes on from there")
    except AtelierError as error:
        yield Failed(error)
    else:
        yield Finished(course.done, time.monotonic() - started)


class _Course:
    """One training under way: `done` steps are made, `saved` is the checkpoint to go back to."""

    def __init__(self, task: Task[Any], run: Run, optim: Optim, folder: Path, placement: Placement) -> None:
        self.task, self.run, self.optim, self.folder, self.placement = task, run, optim, folder, placement
        self.pace = pace(optim, run.steps)
        self.saved = checkpoint.newest(folder / checkpoint.FOLDER)
        nets = {**task.nets, **task.aids}
        if self.saved is None or any(not p.requires_grad for net in nets.values() for p in net.parameters()):
            task.begin()
        self.base = base_digest(nets)
        self.averages = {name: Ema(net, optim.ema) for name, net in task.nets.items()}
        self.done, self.kept = 0, 0

    def resume(self, *, accept_changes: bool) -> Resumed | None:
        if self.saved is None:
            return None
        self.done = self.kept = snapshot.restore(
            self.task, self.averages, self.base, self.saved, accept_changes=accept_changes
        )
        return Resumed(self.done, self.saved, checkpoint.after(self.folder / checkpoint.FOLDER, self.saved))

    def events(self, batches: Prefetch[Any], log: Logbook | None, stop: Callable[[], bool]) -> Iterator[TrainingEvent]:
        """log: None in all processes but the first."""
        started, clock = time.monotonic() - (log.seconds if log else 0.0), forecast.Clock()
        begun = self.done
        while self.done < self.run.steps:
            batch = None if stop() else batches.take(stop)
            if self.placement.world.any(batch is None, self.placement.device):
                break
            if self.done == begun:
                yield self._memory(batch)
            losses = self._step(batch)
            yield Stepped(self.done, self.run.steps, losses)
            left = self.run.steps - self.done
            if (seconds := clock.stepped(time.monotonic(), left)) is not None and left:
                yield TimeForecast(left, seconds)
            if log:
                yield from self._recorded(log, losses, started)
            if self._due(self.run.checkpoint_every) or self.done == self.pace.constant_until:
                yield from self._save(log)
        if self.done > self.kept:
            yield from self._save(log)

    def _memory(self, batch: object) -> MemoryForecast:
        at_once = -(-self.task.count(batch) // self.run.accumulate)
        needed = forecast.memory(self.task, self.optim, batch, at_once)
        forecast.refuse_what_does_not_fit(needed, self.placement.free)
        return MemoryForecast(needed.total, needed.parts, self.placement.free)

    def _recorded(self, log: Logbook, losses: Mapping[str, float], started: float) -> Iterator[Validated]:
        if self._due(self.run.log_every):
            log.add(self.done, losses)
        if self._due(self.run.validate_every):
            numbers = {**self._validated(log), "seconds": time.monotonic() - started}
            log.add(self.done, numbers)
            yield Validated(self.done, numbers)

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
                f"step {self.done + 1}: the device's memory is full; set run.checkpointing = true, raise "
                "run.accumulate, or train with a smaller run.batch or model"
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
        for name, image in result.images.items():
            log.add_image(self.done, name, image)
        return result.numbers

    def _save(self, log: Logbook | None) -> Iterator[CheckpointSaved]:
        """The checkpoint before the cool-down stays: from there the run can be made longer."""
        self.kept = self.done
        if not log:
            return
        taken = snapshot.take(self.task, self.averages, self.base, self.done)
        self.saved = checkpoint.save(
            self.folder / checkpoint.FOLDER, taken, self.run.keep, spare=self.pace.constant_until
        )
        log.curves()
        yield CheckpointSaved(self.done, self.saved)


@contextmanager
def averaged(task: Task[Any], averages: Mapping[str, Ema]) -> Generator[None]:
    """Inside, the networks carry their averaged weights."""
    own: list[tuple[Tensor, Tensor]] = []
    for name, net in task.nets.items():
        for key, average in averages[name].average.items():
            parameter = net.get_parameter(key)
            own.append((parameter, parameter.data))
            parameter.data = average
        net.eval()
    try:
        yield
    finally:
        for parameter, data in own:
            parameter.data = data
        for net in task.nets.values():
            net.train()
