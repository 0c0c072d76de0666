"""The processes that train one model together, each on its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from atelier.errors import AtelierError, BadInput

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other: the first alone validates and saves."""


@dataclass(frozen=True, slots=True)
class World:
    """This process is number `rank` of `size`. The first one alone writes and tells."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Which of `count` things of a whole batch are this process's; `size` divides them."""
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def own(self, whole: Tensor) -> Tensor:
        """This process's rows of what was drawn for the whole batch."""
        return whole[self.rows(len(whole))]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Makes each tensor the sum of all processes', in place."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _together():
            torch.distributed.all_reduce(flat)
        first = 0
        for tensor in tensors:
            tensor.copy_(flat[first : first + tensor.numel()].view(tensor.shape))
            first += tensor.numel()

    def any(self, said: bool, device: torch.device) -> bool:  # noqa: FBT001 - one vote
        """Whether any process says so."""
        if self.size == 1:
            return said
        votes = torch.tensor([float(said)], device=device)
        self.add([votes])
        return bool(votes.item())

    def meet(self) -> None:
        """Waits until all processes are here."""
        if self.size > 1:
            with _together():
                torch.distributed.barrier()


ALONE = World()


@contextmanager
def _together() -> Generator[None]:
    """Where another process is gone, its own line says why: this one says no more than that."""
    try:
        yield
    except RuntimeError as error:
        raise AtelierError("another process of this training has ended; all must be started again") from error


def own_device(device: torch.device, environment: Mapping[str, str] = os.environ) -> torch.device:
    """Of several alike devices of a machine, the one that torchrun gives this process."""
    if device.type != "cuda" or "LOCAL_RANK" not in environment:
        return device
    own = torch.device("cuda", int(environment["LOCAL_RANK"]))
    torch.cuda.set_device(own)
    return own


@contextmanager
def joined(device: torch.device, environment: Mapping[str, str] = os.environ) -> Generator[World]:
    """The world that torchrun describes in the environment; without it, this process alone. Raises BadInput."""
    size = int(environment.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    from torch import distributed

    if not distributed.is_available():
        raise BadInput("torchrun: this torch was built without torch.distributed; train in one process")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
