"""Runs of the tiny model whose resources are watched, or replaced by something simpler."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.pipeline.plan import plan
from atelier.pipeline.resources import PLAIN, Adapted, PartOf, Resources, T
from atelier.pipeline.run import run
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.prompt import Chunk, Inversions, Marks
from atelier.request.events import Event
from atelier.request.model import Provenance, Request
from atelier.request.resolved import ImageRef, ModelRef
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache

CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1)
TOGETHER = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=None)
"""What a GPU does, on the CPU: one call for the whole batch."""
PLENTY = 2**40
PROVENANCE = Provenance("1", "fp32", "cpu", "torch 2.13.0")


def engine_on(folder: Path, *, device: Device = CPU, budget: int = 0, **more: Any) -> Engine:
    """With the models beside `folder`."""
    return Engine(device, Library((folder.parent,)), HashCache(), version="1", budget=budget, **more)


def request(**fields: object) -> Request:
    return request_of({"prompt": "a red cat", "model": "tiny", "steps": 3, "seed": 7} | fields)


def planned(engine: Engine, *, previews: bool = False, max_batch: int | None = 1, **fields: object) -> list[Stage]:
    """The stages of a request."""
    resolved = engine.resolve(request(**fields))
    return list(plan(resolved, resolved.sampling, PROVENANCE, max_batch=max_batch, previews=previews))


def changed(stages: Sequence[Stage], change: Callable[[Diffuse], Diffuse]) -> list[Stage]:
    """The same with every Diffuse changed."""
    return [change(stage) if isinstance(stage, Diffuse) else stage for stage in stages]


def two_colours(folder: Path) -> str:
    """The path of an image of 64x64, red at the left and blue at the right."""
    image = Image.new("RGB", (64, 64), (200, 40, 40))
    image.paste((30, 60, 210), (32, 0, 64, 64))
    image.save(folder / "source.png")
    return str(folder / "source.png")


def same(part: Any) -> Any:
    return part


@dataclass
class Lending:
    """Lends what `real` does, or what `instead` (by part) makes of it; remembers what was lent (+), given back (-) and
    saved, and writes nothing."""

    real: Resources
    instead: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict[str, Callable[[Any], Any]])
    log: list[str] = field(default_factory=list[str])
    saved: list[tuple[Image.Image, str, str, int, int, int]] = field(default_factory=list[Any])

    @property
    def device(self) -> torch.device:
        return self.real.device

    def checkpoint(self, model: ModelRef) -> Checkpoint:
        return self.real.checkpoint(model)

    @contextmanager
    def borrow(self, model: ModelRef, part: PartOf[T], adapted: Adapted = PLAIN, /) -> Generator[T]:
        with self.real.borrow(model, part, adapted) as own:
            self.log.append(f"+{part.name}")
            try:
                yield self.instead.get(part.name, same)(own)
            finally:
                self.log.append(f"-{part.name}")

    def is_loaded(self, model: ModelRef, part: PartOf[T], adapted: Adapted = PLAIN, /) -> bool:
        return self.real.is_loaded(model, part, adapted)

    def image(self, image: ImageRef) -> Image.Image:
        return self.real.image(image)

    def save(self, image: Image.Image, infotext: str, *, output: str, index: int, count: int, seed: int) -> Path:
        self.saved.append((image, infotext, output, index, count, seed))
        return Path(output)


@dataclass(frozen=True)
class Call:
    """What a network was given."""

    x: Tensor
    t: Tensor
    tokens: Tensor
    ports: Ports
    channels: Tensor | None = None

    @property
    def texts(self) -> list[str]:
        """Of each row, where `Letters` encoded them."""
        return [_text(row) for row in self.tokens]


@dataclass
class Watched:
    """A network that is no module: remembers its calls, and answers as `net` does (0 if None)."""

    net: Callable[..., Tensor] | None = None
    calls: list[Call] = field(default_factory=list[Call])
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
        self.calls.append(Call(x.clone(), t.clone(), cond.tokens.clone(), ports, cond.channels))
        return torch.zeros_like(x) if self.net is None else self.net(x, t, cond, ports)

    def around(self, net: Callable[..., Tensor]) -> Watched:
        """For `Lending.instead`."""
        self.net = net
        return self

    def alone(self, _: object) -> Watched:
        """The same, without the network."""
        return self

    @property
    def texts(self) -> list[list[str]]:
        return [call.texts for call in self.calls]


class Letters:
    """A text encoder of one tower whose states say which letters they are of."""

    marks = Marks()
    inversions = Inversions()

    def __init__(self, _: object = None) -> None: ...

    @property
    def towers(self) -> tuple[Letters]:
        return (self,)

    def tokenize(self, text: str, /) -> list[int]:
        return [ord(letter) for letter in text if letter != " "]

    def encode(self, chunks: Sequence[Chunk], clip_skip: int, /) -> Conditioning:
        rows = torch.tensor([chunk.tokens for chunk in chunks], dtype=torch.float32)
        return Conditioning(rows[..., None].repeat(1, 1, 32))

    def join(self, states: Sequence[Conditioning], /) -> Conditioning:
        return states[0]


def _text(row: Tensor) -> str:
    return "".join(chr(int(token)) for token in row[:, 0] if token < 256)


def happened(stages: Sequence[Stage], have: Resources, *, previews: float | None = None) -> list[Event]:
    return list(run(stages, have, previews=previews))


def shown(engine: Engine, stages: Sequence[Stage]) -> Watched:
    """What the network is given in a run in which only the texts and the noise are real."""
    net = Watched()
    happened(stages, Lending(engine.resources, {"text": Letters, "denoiser": net.alone}))
    return net
