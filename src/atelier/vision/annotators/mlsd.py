"""Straight lines by M-LSD."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile, OptionSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from atelier.vision.annotating import Pixels
    from atelier.vision.arrays.shapes import Point

    Segment = tuple[Point, Point]

MOST = 200
"""Lines of an image, the surest."""
AROUND = 3
"""A centre is no less sure than any of so many pixels across and down around it."""
STRIDE = 2
"""Pixels of the image for each of the maps."""
WHITE = (255, 255, 255)


def load(path: Path, device: torch.device) -> Drawer:
    """Raises BadFile."""
    import numpy as np
    import torch

    from atelier.families.parts.line_segments import NETWORK
    from atelier.vision.arrays.shapes import thin_line
    from atelier.vision.reading import read_file
    from atelier.weights.names.batch_norm import counts

    net = read_file(path, NETWORK, device, counts)

    def draw(pixels: Pixels, asked: Asked) -> Pixels:
        with torch.inference_mode():
            maps = net(seen(pixels).to(device))[0].float().cpu()
        canvas = np.zeros_like(pixels)
        for start, end in segments(maps, asked.options["score"], asked.options["length"]):
            thin_line(canvas, start, end, WHITE)
        return canvas

    return Drawer(draw, (net,))


def seen(pixels: Pixels) -> Tensor:
    """(1, 4, h, w): the image from -1 to 1, and a fourth channel of ones, which the same rule brings near -1."""
    import torch

    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    return torch.cat((x, torch.ones_like(x[:, :1])), 1) / 127.5 - 1


def segments(maps: Tensor, score: float, length: float) -> list[Segment]:
    """The lines in what the network made, (9, i, j), the surest first. score: 0 to 1, what they have to be surer than;
    length: what they have to be longer than, in pixels of the maps."""
    import torch.nn.functional as F

    from atelier.vision.arrays.shapes import Point

    heat = maps[0].sigmoid()
    highest = F.max_pool2d(heat[None], AROUND, stride=1, padding=AROUND // 2)[0]
    sure, places = heat.where(highest == heat, 0).flatten().topk(min(MOST, heat.numel()))
    found: list[Segment] = []
    for certain, place in zip(sure, places, strict=True):
        y, x = divmod(int(place), heat.shape[1])
        x1, y1, x2, y2 = (float(part) for part in maps[1:5, y, x])
        if float(certain) > score and ((x1 - x2) ** 2 + (y1 - y2) ** 2) ** 0.5 > length:
            start, end = Point(STRIDE * (x + x1), STRIDE * (y + y1)), Point(STRIDE * (x + x2), STRIDE * (y + y2))
            found.append((start, end))
    return found


SPECS = (
    Annotator(
        "mlsd",
        "Straight lines by M-LSD, white on black.",
        NeedsFile(load, ("mlsd_large_512_fp32.pth",)),
        ("MLSDdetector",),
        (
            OptionSpec("score", 0.1, 0.01, 2, 0.01, "How sure a line has to be; from 1 on none is."),
            OptionSpec("length", 0.1, 0.01, 20, 0.01, "What a line has to be longer than, in halves of its pixels."),
        ),
    ),
)
