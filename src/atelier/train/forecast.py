"""What a training will need, said before it starts: memory, from a dry look at one image; and time, from its first
steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from atelier.errors import BadInput
from atelier.train.optimizer_kinds import OPTIMIZERS
from atelier.train.recipe import Optim

if TYPE_CHECKING:
    from atelier.train.loop import Task

MARGIN = 1.25
"""How much more than is free a training must need to be refused: the forecast is no better than that."""
SKIPPED, MEASURED = 1, 3
"""Steps before the clock starts, in which threads and caches settle; and steps that it runs over."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. weights: of all networks in memory, those that nothing is learned of too; activations: what the backward
    pass of one part of a batch finds."""

    weights: int
    gradients: int
    optimizer: int
    averages: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def memory(task: Task[Any], optim: Optim, batch: object, images: int) -> Memory:
    """What the task needs, going by one image of `batch` and so many images computed at once."""
    nets = [*task.nets.values(), *task.aids.values(), *task.frozen]
    learned = {id(p): p for net in nets for p in net.parameters() if p.requires_grad}
    learning = sum(map(_bytes, learned.values()))
    with torch.random.fork_rng():  # dropout must not feel that somebody looked
        kept = activations(lambda: task.dry(batch), nets)
    return Memory(
        weights=weights(nets),
        gradients=learning,
        optimizer=round(learning / 4 * OPTIMIZERS[optim.kind].state),
        averages=sum(_bytes(p) for net in task.nets.values() for p in net.parameters() if p.requires_grad)
        if optim.ema
        else 0,
        activations=images * kept,
    )


def weights(nets: Iterable[nn.Module]) -> int:
    """Bytes of all parameters and buffers of networks, each once: several may have the same."""
    tensors = {id(own): own for net in nets for own in (*net.parameters(), *net.buffers())}
    return sum(map(_bytes, tensors.values()))


def activations(loss: Callable[[], Tensor], nets: list[nn.Module]) -> int:
    """Bytes that autograd keeps for the backward pass of a loss, beside the parameters."""
    weights = {p.untyped_storage().data_ptr() for net in nets for p in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()  # views of one tensor are kept once
        if place not in weights and not isinstance(tensor, nn.Parameter):
            kept[place] = max(kept.get(place, 0), _bytes(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = loss()
    del held
    return sum(kept.values())


def refuse_what_does_not_fit(needed: Memory, free: int | None) -> None:
    """Raises BadInput where it clearly does not. free: bytes before the task was made; None where nobody knows."""
    if free is None or needed.total <= MARGIN * free:
        return
    most = max(needed.parts, key=needed.parts.__getitem__)
    raise BadInput(
        f"this training needs about {needed.total / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: "
        f"{REMEDIES[most]}"
    )


REMEDIES: Mapping[str, str] = {
    "weights": "take a smaller model, or a larger machine",
    "gradients": "train less of the model (a LoRA), or on a larger machine",
    "optimizer": 'set optim.kind = "adamw8bit" or "adafactor", or train less of the model (a LoRA)',
    "averages": "train less of the model (a LoRA), or on a larger machine",
    "activations": "set run.checkpointing = true, raise run.accumulate, or lower run.batch",
}
"""What helps where a part is the largest."""


class Clock:
    """Says once, after the first steps, how long the rest will take."""

    def __init__(self) -> None:
        self._steps = 0
        self._began = 0.0

    def stepped(self, now: float, left: int) -> float | None:
        """After a step: seconds that `left` more will take, at the step that completes the measurement; else None."""
        self._steps += 1
        if self._steps == SKIPPED:
            self._began = now
        if self._steps != SKIPPED + MEASURED:
            return None
        return (now - self._began) / MEASURED * left


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
