"""Memory for the tensors of a network in one piece, which returns to the system whole when the last of them goes.

Allocated one by one, the tensors of a network and what is needed to make them share the C library's heap, which keeps
hundreds of megabytes of gaps after they are freed, exactly when the next network wants memory. numpy's memory lies in
large pages where the system has them (transparent huge pages), which take a fraction of the time of small ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ALIGNED = 64
"""Bytes to which every tensor is aligned, as torch's own are."""


class Room:
    """Uninitialised tensors side by side, each with a storage of its own.

    sizes: the bytes of each tensor that will be asked for. Raises torch's RuntimeError where they do not fit.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        import numpy as np

        self._size, self._used = sum(_padded(size) for size in sizes), 0
        whole = np.empty(self._size + ALIGNED, np.uint8)
        first = -whole.ctypes.data % ALIGNED
        self._bytes = whole[first : first + self._size]

    def tensor(self, shape: Sequence[int], dtype: torch.dtype, *, channels_last: bool = False) -> Tensor:
        """The next tensor, of at least one element; a kernel (4 dimensions) may be laid out channels last."""
        import torch

        count, start = prod(shape), self._used
        self._used += _padded(count * dtype.itemsize)
        if self._used > self._size:
            raise ValueError("more was asked for than there is room for")
        flat = torch.frombuffer(self._bytes, dtype=dtype, count=count, offset=start)
        if not channels_last:
            return flat.view(tuple(shape))
        outputs, inputs, height, width = shape
        return flat.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def _padded(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
