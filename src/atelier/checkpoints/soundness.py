"""Whether the numbers in a file are numbers: what only reading all of them tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atelier.checkpoints.ahead import Ahead
from atelier.weights.archive import Archive
from atelier.weights.formats.safetensors import FLOATS


@dataclass(frozen=True, slots=True)
class Soundness:
    """Names of tensors with NaN or infinity, and of kernels and matrices that are zero throughout."""

    not_finite: tuple[str, ...]
    zero: tuple[str, ...]


def soundness(archives: Iterable[Archive]) -> Soundness:
    """Reads every tensor of floats. Raises BadFile where a file changes meanwhile."""
    bad: list[str] = []
    zero: list[str] = []
    for archive in archives:
        names = [name for name, info in archive.tensors.items() if info.dtype in FLOATS and info.count]
        reader = Ahead(archive, names)
        for name in names:
            tensor = reader.take(name).float()
            if not bool(tensor.isfinite().all()):
                bad.append(name)
            elif tensor.ndim > 1 and not bool(tensor.any()):
                zero.append(name)
    return Soundness(tuple(bad), tuple(zero))
