"""How the C library hands memory back, where it is glibc."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
OWN_PAGES = 8 * 2**20
"""Bytes from which an allocation has pages of its own, which go back to the system when it is freed."""
KEPT = 64 * 2**20
"""Bytes that may stay free at the heap's end."""


@cache
def settle_heap() -> None:
    """Keeps the heap of this process from holding on to what networks have freed; does nothing without glibc.

    By itself glibc moves the bound of own pages up to 32 MiB, the size of a U-Net's feature maps: between them the heap
    then keeps gaps of 100 to 200 MiB in every call.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_THRESHOLD, OWN_PAGES)
    mallopt(M_TRIM_THRESHOLD, KEPT)
