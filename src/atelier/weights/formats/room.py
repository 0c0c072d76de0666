"""Memory for the tensors of a network in one piece, which returns to the system whole when the last of them goes.

Allocated one by one, the tensors of a network and what is needed to make them share the C library's heap, which keeps
hundreds of megabytes of gaps after they are freed, exactly when the next network wants memory. The memory lies in pages
of the usual size: huge ones take longer wherever the system has to move others away first, and networks compute no
faster in them (docs/adr/0049-huge-pages.md).
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ALIGNED = 64
"""Bytes to which every tensor is aligned, as torch's own are."""
POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE of Linux, which Python's `mmap` does not name."""


class Room:
    """Uninitialised tensors side by side, each with a storage of its own.

    sizes: the bytes of each tensor that will be asked for. Raises OSError where there is no memory for them.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self._size, self._used = sum(_padded(size) for size in sizes), 0
        self._bytes = mmap.mmap(-1, max(1, self._size), access=mmap.ACCESS_COPY)
        if sys.platform == "linux":
            with suppress(OSError):  # a system without huge pages
                self._bytes.madvise(mmap.MADV_NOHUGEPAGE)

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


def claim(tensor: Tensor) -> None:
    """Has the system find the memory of a tensor whose numbers lie side by side, all pages in one go.

    The first write to each page would do the same, one by one, in about twice the time. What the memory holds stays as
    it is. Does nothing where the system knows no such call (Linux before 5.14, other systems).
    """
    if sys.platform != "linux" or not tensor.numel():
        return
    first = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    end = tensor.data_ptr() + tensor.numel() * tensor.itemsize
    _madvise()(ctypes.c_void_p(first), ctypes.c_size_t(end - first), POPULATE_WRITE)


@cache
def _madvise() -> Callable[..., int]:
    """The system's call. Python's own keeps other threads waiting meanwhile."""
    return ctypes.CDLL(None).madvise


def _padded(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
