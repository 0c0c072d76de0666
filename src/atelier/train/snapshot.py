"""Between a task under way and a checkpoint: what is kept of it, and how it is filled again, exactly."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from atelier.errors import BadFile, BadInput
from atelier.train.checkpoint import Snapshot, load
from atelier.train.ema import Ema
from atelier.train.folder import refuse_changes
from atelier.train.trainable import base as base_of
from atelier.train.trainable import learned

if TYPE_CHECKING:
    from atelier.train.loop import Task


GROUP = "group."
KINDS = "optimizers"
"""Under this the state of a checkpoint says of which kind each optimizer is."""


def take(task: Task[Any], averages: Mapping[str, Ema], base: str, step: int) -> Snapshot:
    """What a run needs to go on after `step` steps. base: names the weights that are not trained, empty for none."""
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for name, net in {**task.nets, **task.aids}.items():
        tensors[name] = learned(net)
    for name, ema in averages.items():
        tensors[f"{name}.ema"] = ema.average
    for name, optimizer in task.optimizers.items():
        tensors[f"{name}.optimizer"] = _optimizer_tensors(optimizer)
    return Snapshot(step, tensors, {"recipe": task.identity, KINDS: _kinds(task), **task.extra(), **_based(base)})


def restore(task: Task[Any], averages: Mapping[str, Ema], base: str, path: Path, *, accept_changes: bool) -> int:
    """Fills the task's networks, averages and optimizers from the checkpoint `path`; returns its step.

    Raises BadInput for a run of another recipe, other parts or another base, unless the changes are accepted; BadFile
    where the checkpoint does not fit.
    """
    snapshot, folder = load(path), path.parent.parent
    if not accept_changes:
        _refuse_another_run(folder, str(snapshot.state.get("recipe")), task.identity)
        _refuse_other_parts(folder, snapshot.state, {**task.extra(), **_based(base)})
    for name, net in {**task.nets, **task.aids}.items():
        _fill(path, name, learned(net), snapshot, spare=base_of(net))
    for name, ema in averages.items():
        _fill(path, f"{name}.ema", ema.average, snapshot, spare=base_of(task.nets[name]))
    _refuse_other_optimizers(path, snapshot.state, _kinds(task))
    for name, optimizer in task.optimizers.items():
        _restore_optimizer(path, optimizer, snapshot.tensors.get(f"{name}.optimizer", {}))
    return snapshot.step


def _refuse_another_run(folder: Path, stored: str, own: str) -> None:
    if stored != own:
        same_recipe = stored.partition("-")[0] == own.partition("-")[0]
        refuse_changes(folder, ["the training images changed" if same_recipe else f"digest {stored}, not {own}"])


def _refuse_other_parts(folder: Path, state: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    for name, value in extra.items():
        if state.get(name, value) != value:
            raise BadInput(
                f"{folder}: {name} is no longer what this run began with: give another --out, put the earlier one "
                "back, or --accept-changes to go on"
            )


def _kinds(task: Task[Any]) -> dict[str, str]:
    return {name: type(optimizer).__name__ for name, optimizer in task.optimizers.items()}


def _refuse_other_optimizers(path: Path, state: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    """What one optimizer remembers says nothing to another, whatever changes were accepted."""
    if state.get(KINDS, kinds) != kinds:
        raise BadFile(path, "holds the state of other optimizers: put optim.kind back, or give another --out")


def _based(base: str) -> dict[str, str]:
    return {"base": base} if base else {}


def _fill(path: Path, stem: str, own: Mapping[str, Tensor], snapshot: Snapshot, spare: Container[str]) -> None:
    """Copies a checkpoint's tensors into `own`, which keep their place and layout. Raises BadFile unless all fit.

    spare: what the checkpoint may hold beside them, and is passed over: checkpoints once held the base too.
    """
    stored = {name: t for name, t in snapshot.tensors.get(stem, {}).items() if name in own or name not in spare}
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in stored.items()}:
        raise BadFile(path, f"holds no {stem} of this recipe's shape; give another --out")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """What it remembers of each parameter, "3.exp_avg", and what moves in each group, "group.0.d"."""
    state: Mapping[int, Mapping[str, object]] = optimizer.state_dict()["state"]
    tensors = {f"{i}.{key}": _tensor(value) for i, values in state.items() for key, value in values.items()}
    for i, group in enumerate(optimizer.param_groups):
        moving = {f"{GROUP}{i}.{key}": _tensor(group[key]) for key in group.get("moving", ()) if key in group}
        tensors |= moving
    return tensors


def _tensor(value: object) -> Tensor:
    """Numbers of Python as int64 and float64, in which no optimizer keeps tensors of its own."""
    if isinstance(value, Tensor):
        return value
    assert isinstance(value, int | float)
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def _restore_optimizer(path: Path, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Into tensors that lie like the parameters: a fused step reads both in memory order, on one device."""
    parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        if name.startswith(GROUP):
            index, _, key = name.removeprefix(GROUP).partition(".")
            optimizer.param_groups[int(index)][key] = value.item()
            continue
        index, _, key = name.partition(".")
        parameter = parameters[int(index)] if int(index) < len(parameters) else None
        if parameter is None or value.numel() > max(parameter.numel(), 1):
            raise BadFile(path, "holds the optimizer of other parameters; give another --out")
        optimizer.state[parameter][key] = _placed(value, parameter)


def _placed(value: Tensor, parameter: Tensor) -> object:
    if value.shape == parameter.shape and value.is_floating_point() and value.dtype != torch.float64:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    if value.ndim == 0 and value.dtype in {torch.int64, torch.float64}:
        return value.item()
    return value.to(parameter.device)
