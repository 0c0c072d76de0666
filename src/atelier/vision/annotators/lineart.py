"""Line drawings by a network."""

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

    from atelier.families.parts.line_drawing import NETWORK
    from atelier.vision.arrays.tones import cut, grey
    from atelier.vision.reading import read_file

    net = read_file(path, NETWORK, device)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        """The network draws in black on white, and hints are white on black."""
        x = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            lines = net(x)[0, 0].cpu().numpy()
        return 255 - grey(cut(lines * 255))

    return Drawer(draw, (net,))


SPECS = (
    Annotator(
        "lineart",
        "A line drawing of an image, white on black.",
        NeedsFile(load, ("sk_model.pth",)),
        ("lineart_realistic", "LineartDetector"),
    ),
    Annotator("lineart_coarse", "A coarser line drawing.", NeedsFile(load, ("sk_model2.pth",))),
)
