"""ESRGAN, Real-ESRGAN, BSRGAN and whatever else is an RRDBNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.parts import rrdbnet
from atelier.vision.reading import read
from atelier.vision.upscaling import FileKind, ScaleNet

if TYPE_CHECKING:
    import torch

    from atelier.weights.archive import Stored

LARGEST = 1152
"""Side in pixels of what is made at once: the last layers work at its size, on 64 channels of 4 bytes (340 MB each)."""


def load(stored: Stored, device: torch.device, dtype: torch.dtype) -> ScaleNet:
    """Raises BadFile."""
    net = read(stored, rrdbnet.NETWORK, device, dtype)
    spec = net.spec
    return ScaleNet(net, spec.scale, device, dtype, multiple=spec.unshuffle, tile=LARGEST // spec.scale)


SPECS = (FileKind("RRDBNet", rrdbnet.detect, load),)
