"""Normals of what an image shows, by the network of Bae 2021."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import torch

    from atelier.vision.annotating import Pixels


def load(path: Path, device: torch.device) -> Drawer:
    """Raises BadFile."""
    import torch

    from atelier.families.parts.surface_normals import NETWORK
    from atelier.vision.arrays.tones import cut
    from atelier.vision.imagenet import seen
    from atelier.vision.reading import read_file
    from atelier.weights.names.surface_normals import unread

    net = read_file(path, NETWORK, device, unread)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        with torch.inference_mode():
            normals = net(seen(pixels, device))[0].permute(1, 2, 0).cpu().numpy()
        return cut((normals + 1) * 0.5 * 255)

    return Drawer(draw, (net,))


SPECS = (
    Annotator(
        "normal_bae",
        "Surface normals by the network of Bae, for ControlNet 1.1's normal model.",
        NeedsFile(load, ("scannet.pt",)),
        ("NormalBaeDetector", "normalbae"),
    ),
)
