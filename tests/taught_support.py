"""Teachings of a fraction of a second: a tiny model, a few drawn images, a few steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import training_support as support

if TYPE_CHECKING:
    from torch import Tensor

    from atelier.train.loop import Placement
    from atelier.train.tasks.teaching import TeachingTask

SIZE = 32
"""Pixels along a side; the tiny model halves them three times."""
FEW: Mapping[str, Any] = {
    "data.size": SIZE,
    "run.steps": 4,
    "run.batch": 2,
    "run.checkpoint_every": 2,
    "run.validate_every": 4,
    "run.log_every": 1,
    "run.workers": 0,
    "run.threads": 1,
    "run.dtype": "fp32",
    "optim.warmup": 0,
    "optim.rate": 1e-2,
    "dtype": "fp32",
}
ADAPTER: Mapping[str, Any] = {"adapter.rank": 4, "adapter.alpha": 2.0}
WORD: Mapping[str, Any] = {"word.word": "zwx", "word.vectors": 2, "word.like": "cat dog"}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "lora": ADAPTER,
    "inversion": WORD,
    "dreambooth": {},
    "control": {},
    "image-prompt": {},
}


def changes(kind: str, base: Path, source: Path, **more: Any) -> dict[str, Any]:
    """What a recipe of this kind gets that teaches `base` the images of `source`. more: keys with __ for dots."""
    own = {key.replace("__", "."): value for key, value in more.items()}
    return {"base": str(base), "data.source": str(source), **FEW, **KINDS[kind], **own}


def arguments(kind: str, out: Path, told: Mapping[str, Any]) -> list[str]:
    """The command that trains so."""
    quoted = {key: f"'{value}'" if isinstance(value, str) else value for key, value in told.items()}
    flags = {key: str(value).lower() if isinstance(value, bool) else value for key, value in quoted.items()}
    return ["train", kind, "--out", str(out), *(f"--set={key}={value}" for key, value in flags.items())]


def task(kind: str, told: Mapping[str, Any], folder: Path, placement: Placement | None = None) -> TeachingTask:
    """What the recipe teaches, before its first step."""
    chosen = support.recipe(kind, told)
    return support.known()[kind].build(chosen, placement or support.placement(), folder)


def shake(task: TeachingTask, seed: int = 3, size: float = 0.1) -> None:
    """Moves what is trained away from where it begins, so that every gradient counts."""
    import torch

    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for net in task.nets.values():
            for parameter in net.parameters():
                if parameter.requires_grad:
                    parameter.add_(size * torch.randn(parameter.shape, generator=random))


def learning(task: TeachingTask) -> dict[str, Tensor]:
    """The trained parameters, by net and name."""
    return {
        f"{net}.{name}": parameter
        for net, module in task.nets.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def gradients(task: TeachingTask, step: int = 0) -> dict[str, Tensor]:
    """Of a step, before they are bounded; nothing moves."""
    import torch

    with standing(task):
        told = task.update(step, task.maker(step))
    assert float(told["norm"]) < float(task.recipe.optim.clip), "the gradients were bounded"
    assert torch.isfinite(told["loss"])
    found = {name: parameter.grad for name, parameter in learning(task).items()}
    assert all(own is not None for own in found.values())
    return {name: own.clone() for name, own in found.items() if own is not None}


@contextmanager
def standing(task: TeachingTask) -> Iterator[None]:
    """Inside, steps compute gradients and move nothing."""
    steps = {name: optimizer.step for name, optimizer in task.optimizers.items()}
    for optimizer in task.optimizers.values():
        optimizer.step = lambda closure=None: None  # type: ignore[method-assign, misc]
    try:
        yield
    finally:
        for name, optimizer in task.optimizers.items():
            optimizer.step = steps[name]  # type: ignore[method-assign]


def images(folder: Path, count: int = 4, size: int = 40) -> Path:
    """Drawn images whose captions fit into one chunk of the tiny model."""
    said = ("a red cat", "cat", "a dog", "red dog", "a cat, red")
    for number, text in enumerate(sorted(support.draw_images(folder, count, size).glob("*.txt"))):
        text.write_text(said[number % len(said)], encoding="utf-8")
    return folder
