"""Whether the numbers in a file are numbers: what only reading all of them tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atelier.checkpoints.ahead import Ahead
from atelier.errors import BadFile
from atelier.weights.archive import Archive, counted
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


def damaged(archives: Iterable[Archive]) -> BadFile | None:
    """The error about the first of them with NaN or infinity, None where all are numbers. Raises BadFile as `soundness`
    does."""
    for archive in archives:
        bad = soundness([archive]).not_finite
        if bad:
            return BadFile(archive.path, f"has {counted(bad)} of NaN or infinity: it is damaged, get it again")
    return None
