"""All randomness of training as a function of (seed, purpose, step): nothing to save, nothing to replay on resume."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def key(*parts: int | str) -> int:
    """A 63-bit number that depends on every part and on nothing else."""
    digest = hashlib.sha256("\0".join(str(p) for p in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator of its own for the named draw."""
    import torch

    return torch.Generator().manual_seed(key(*parts))


def normal(shape: tuple[int, ...] | torch.Size, *parts: int | str) -> Tensor:
    """Unit normal numbers, float32."""
    import torch

    return torch.randn(shape, generator=generator(*parts))


def uniform(shape: tuple[int, ...] | torch.Size, *parts: int | str) -> Tensor:
    """Numbers in [0, 1), float32."""
    import torch

    return torch.rand(shape, generator=generator(*parts))


def permutation(count: int, *parts: int | str) -> Tensor:
    """0 to count - 1 in random order, int64."""
    import torch

    return torch.randperm(count, generator=generator(*parts))
