"""Soft edges by networks: HED and PiDiNet, each also in two steps of grey (safe) and as scribbles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, Drawer, NeedsFile

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from atelier.vision.annotating import Pixels

    Edges = NDArray[np.float64]
    """(h, w), 0 to 1."""
    Finish = Callable[[Edges], NDArray[np.uint8]]

HED, PIDINET = "ControlNetHED.pth", "table5_pidinet.pth"
STEPS = 2
"""Of grey above black in the safe form, which hides what weak edges tell of an image."""


def soft(edges: Edges) -> NDArray[np.uint8]:
    from atelier.vision.arrays.tones import cut

    return cut(edges * 255)


def safe(edges: Edges) -> NDArray[np.uint8]:
    """0, the half and white."""
    return soft((edges * (STEPS + 1)).astype(int) / STEPS)


def hard(edges: Edges) -> NDArray[np.uint8]:
    return soft((edges > 0.5).astype(float))


def scribbled(edges: Edges) -> NDArray[np.uint8]:
    from atelier.vision.arrays.filters import scribbled as thick

    return thick(soft(edges))


def load_hed(finish: Finish, path: Path, device: torch.device) -> Drawer:
    """Raises BadFile."""
    import torch

    from atelier.families.parts.hed import NETWORK
    from atelier.vision.reading import read_file

    net = read_file(path, NETWORK, device)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        x = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            edges = net(x)[0, 0].double().sigmoid()
        return _finished(edges, finish)

    return Drawer(draw, (net,))


def load_pidinet(finish: Finish, path: Path, device: torch.device) -> Drawer:
    """Raises BadFile."""
    import torch

    from atelier.families.parts.pidinet import NETWORK
    from atelier.vision.reading import read_file

    net = read_file(path, NETWORK, device)

    def draw(pixels: Pixels, _: Asked) -> Pixels:
        reversed_channels = pixels[..., ::-1].copy()
        x = torch.from_numpy(reversed_channels).to(device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return _finished(net(x)[0, 0].double(), finish)

    return Drawer(draw, (net,))


def _finished(edges: torch.Tensor, finish: Finish) -> Pixels:
    from atelier.vision.arrays.tones import grey

    return grey(finish(edges.cpu().numpy()))


def _hed(finish: Finish) -> NeedsFile:
    return NeedsFile(partial(load_hed, finish), (HED,))


def _pidinet(finish: Finish) -> NeedsFile:
    return NeedsFile(partial(load_pidinet, finish), (PIDINET,))


SPECS = (
    Annotator("softedge_hed", "Soft edges by HED.", _hed(soft), ("hed", "HEDdetector", "softedge")),
    Annotator("softedge_hedsafe", "Soft edges by HED, in two steps of grey.", _hed(safe), ("hed_safe", "hedsafe")),
    Annotator("scribble_hed", "Scribbles along the soft edges of HED.", _hed(scribbled)),
    Annotator("softedge_pidinet", "Soft edges by PiDiNet.", _pidinet(soft), ("pidinet", "PidiNetDetector")),
    Annotator(
        "softedge_pidisafe",
        "Soft edges by PiDiNet, in two steps of grey.",
        _pidinet(safe),
        ("pidinet_safe", "pidisafe", "pidsafe"),
    ),
    Annotator(
        "scribble_pidinet", "Scribbles along the soft edges of PiDiNet.", _pidinet(scribbled), ("pidinet_scribble",)
    ),
    Annotator("t2ia_sketch_pidi", "Hard edges by PiDiNet.", _pidinet(hard), ("pidinet_sketch", "sketch_t2ia")),
)
