"""Normals of what an image shows, by the network of Bae 2021."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import torch

    from atelier.vision.annotating import Pixels

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, which the encoder was first trained on."""


def load(path: Path, device: torch.device) -> Drawer:
    """Raises BadFile."""
    import numpy as np
    import torch

    from atelier.families.parts.surface_normals import NETWORK
    from atelier.vision.arrays.tones import cut
    from atelier.vision.reading import read_file
    from atelier.weights.names.surface_normals import unread

    net = read_file(path, NETWORK, device, unread)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        colours = (pixels.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
        x = torch.from_numpy(colours).to(device).permute(2, 0, 1)[None]
        with torch.inference_mode():
            normals = net(x)[0].permute(1, 2, 0).cpu().numpy()
        return cut((normals + 1) * 0.5 * 255)

    return Drawer(draw, (net,))


SPECS = (
    Annotator(
        "normal_bae",
        "Normals of the surface by the network of Bae, for ControlNet 1.1's normal model.",
        NeedsFile(load, ("scannet.pt",)),
        ("NormalBaeDetector", "normalbae"),
    ),
)
