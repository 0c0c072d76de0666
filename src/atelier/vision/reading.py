"""Reading a network of images from a file of users, strictly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes

if TYPE_CHECKING:
    import torch
    from torch import nn

    from atelier.weights.archive import Stored

M = TypeVar("M", bound="nn.Module")
RGB = 3
PREFIX = "netNetwork."
"""What programs that keep a network in an object put before the names of all tensors."""


def read(stored: Stored, network: Architecture[Any, M], device: torch.device, dtype: torch.dtype) -> M:
    """The network on `device`, ready to run, its kernels channels last.

    Raises BadFile for tensors missing, left over or misshapen, and for one that does not read and write colour images.
    """
    spec = network.infer(Shapes.of(stored), NO_FACTS)
    check_colours(stored.archive.path, spec.channels)
    return _built(stored, network, spec, device, dtype)


def nothing(_: str) -> bool:
    return False


def read_file(
    path: Path, network: Architecture[Any, M], device: torch.device, tolerated: Callable[[str], bool] = nothing
) -> M:
    """The network of a file that holds it alone, in fp32 on `device`, ready to run. tolerated: tensors, by name, on
    which nothing that it makes depends. Raises BadFile."""
    import torch

    from atelier.weights.archive import Stored, open_any

    archive = open_any(path)
    prefix = PREFIX if archive.tensors and all(name.startswith(PREFIX) for name in archive.tensors) else ""
    stored = Stored(archive, "ldm", prefix, tolerated)
    return _built(stored, network, network.infer(Shapes.of(stored), NO_FACTS), device, torch.float32)


def _built(stored: Stored, network: Architecture[Any, M], spec: object, device: torch.device, dtype: torch.dtype) -> M:
    from atelier.weights.load import load_into
    from atelier.weights.load import read as read_tensors

    tensors = read_tensors(stored, network.names(spec), dtype=dtype, mapped=False, channels_last=True)
    return load_into(lambda: network.build(spec), tensors, source=stored.archive.path).to(device)


def check_colours(path: object, channels: int) -> None:
    """Raises BadFile for a network of other images than RGB."""
    if channels != RGB:
        raise BadFile(path, f"is an upscaler of images with {channels} channels; one of colour images (3) is needed")
