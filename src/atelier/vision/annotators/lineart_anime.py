"""Line drawings of anime images by a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import torch

    from atelier.vision.annotating import Pixels


def load(path: Path, device: torch.device) -> Drawer:
    """Raises BadFile."""
    import numpy as np
    import torch

    from atelier.families.parts.anime_lines import NETWORK
    from atelier.vision.arrays.resample import resize, resize_floats
    from atelier.vision.arrays.tones import cut, grey
    from atelier.vision.reading import read_file

    net = read_file(path, NETWORK, device)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        """The network draws in black on white, and hints are white on black. It sees the image stretched."""
        (height, width), multiple = pixels.shape[:2], net.spec.multiple
        large = resize(pixels, width + -width % multiple, height + -height % multiple, "cubic")
        x = torch.from_numpy(large).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            lines = (net(x)[0, 0] * 127.5 + 127.5).cpu().numpy()
        return 255 - grey(cut(resize_floats(lines.astype(np.float64), width, height, "cubic")))

    return Drawer(draw, (net,))


SPECS = (
    Annotator(
        "lineart_anime",
        "A line drawing of an anime image, white on black.",
        NeedsFile(load, ("netG.pth",)),
        ("LineartAnimeDetector",),
    ),
)
