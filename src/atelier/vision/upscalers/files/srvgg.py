"""The compact networks of Real-ESRGAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.parts import srvgg
from atelier.vision.reading import read
from atelier.vision.upscaling import FileKind, ScaleNet

if TYPE_CHECKING:
    import torch

    from atelier.weights.archive import Stored

LARGEST = 512
"""Side in pixels of what is read at once: all layers but the last work at its size."""


def load(stored: Stored, device: torch.device, dtype: torch.dtype) -> ScaleNet:
    """Raises BadFile."""
    net = read(stored, srvgg.NETWORK, device, dtype)
    return ScaleNet(net, net.spec.scale, device, dtype, tile=LARGEST)


SPECS = (FileKind("SRVGGNetCompact", srvgg.detect, load),)
