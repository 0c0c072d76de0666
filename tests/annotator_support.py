"""Images to annotate, and the modules of controlnet_aux one by one: the package as a whole needs torchvision."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from atelier.train.data import scenes

Pixels = NDArray[np.uint8]


def reference(module: str) -> Any:
    """`controlnet_aux.module`, without running the package's own start. Skips the test where it is not installed."""
    pytest.importorskip("cv2")
    if "controlnet_aux" not in sys.modules:
        found = find_spec("controlnet_aux")
        if found is None or found.origin is None:
            pytest.skip("controlnet_aux is not installed")
        _bare("controlnet_aux", Path(found.origin).parent)
    folder, _, inner = module.partition(".")
    if inner and f"controlnet_aux.{folder}" not in sys.modules:
        _bare(f"controlnet_aux.{folder}", Path(sys.modules["controlnet_aux"].__path__[0]) / folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(f"controlnet_aux.{module}")


def _bare(name: str, folder: Path) -> None:
    """A package of which nothing is run."""
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def blocks(height: int, width: int, seed: int = 0, side: int = 8) -> Pixels:
    """Flat squares of random colours."""
    small = noise(-(-height // side), -(-width // side), seed)
    return np.kron(small, np.ones((side, side, 1), np.uint8))[:height, :width]


def gradient(height: int, width: int) -> Pixels:
    """Three channels that rise and wrap around, each at its own pace."""
    rows, columns = np.mgrid[:height, :width]
    return ((rows + columns)[..., None] * np.array([1, 2, 3]) % 256).astype(np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Pixels:
    """Clouds from black to white."""
    small = Image.fromarray(noise(max(2, height // 12), max(2, width // 12), seed))
    values = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return ((values - values.min()) / (values.max() - values.min()) * 255).astype(np.uint8)


def scene(name: str = "banana", background: str = "white", side: int = 256) -> Pixels:
    """An emoji, as the embedded model's data has it."""
    shown = Image.fromarray(scenes.render(scenes.large(name, background)))
    return np.asarray(shown.resize((side, side), Image.Resampling.BICUBIC))


def drawing(height: int, width: int) -> Pixels:
    """Grey lines on white."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[height // 3, 4:-4] = 40
    pixels[4:-4, width // 2 : width // 2 + 2] = (90, 60, 120)
    return pixels


IMAGES: dict[str, Pixels] = {
    "noise": noise(97, 131),
    "squares": blocks(120, 88),
    "gradient": gradient(64, 80),
    "clouds": smooth(150, 123),
    "banana": scene(),
    "drawing": drawing(70, 90),
    "one pixel": noise(1, 1),
    "one row": noise(1, 9),
    "one column": noise(11, 1),
}


def hed() -> nn.Module:
    """Names and shapes of a small one, as published."""
    from atelier.models.hed import Hed, HedSpec

    return Hed(HedSpec((4, 4, 4, 4, 4), (1, 1, 1, 1, 1)))


def line_drawing() -> nn.Module:
    from atelier.models.line_drawing import LineDrawing, LineDrawingSpec

    return LineDrawing(LineDrawingSpec(4, 1))


def pidinet() -> nn.Module:
    from atelier.models.pidinet import PidiNet, PidiNetSpec

    return PidiNet(PidiNetSpec(4, 4))


def line_segments() -> nn.Module:
    from atelier.models.line_segments import LineSegments, LineSegmentsSpec

    return LineSegments(LineSegmentsSpec(4, (4, 4, 4, 4, 4), expansion=2, side=4))


def anime_lines() -> nn.Module:
    from atelier.models.anime_lines import AnimeLines, AnimeLinesSpec

    return AnimeLines(AnimeLinesSpec((4, 4, 4)))


def surface_normals() -> nn.Module:
    from atelier.models.surface_normals import SurfaceNormals, SurfaceNormalsSpec

    spec = SurfaceNormalsSpec(4, (4,) * 7, (1,) * 7, expansion=2, head=4, bottom=4, decoded=(4,) * 4, hidden=4)
    return SurfaceNormals(spec)


def saved(net: nn.Module, path: Path) -> Path:
    """With random weights, under the published names; variances are not below 0."""
    from atelier.families.parts import (
        anime_lines,
        body_pose,
        hed,
        line_drawing,
        line_segments,
        pidinet,
        surface_normals,
    )

    parts = {
        "Hed": hed,
        "LineDrawing": line_drawing,
        "PidiNet": pidinet,
        "BodyPose": body_pose,
        "LineSegments": line_segments,
        "AnimeLines": anime_lines,
        "SurfaceNormals": surface_normals,
    }
    names = parts[type(net).__name__].NETWORK.names(net.spec)
    own, random = net.state_dict(), torch.Generator().manual_seed(0)
    tensors = {n.ldm: torch.randn(own[n.ours].shape, generator=random) * 0.3 for n in names}
    torch.save({n: t.abs() + 0.5 if n.endswith("running_var") else t for n, t in tensors.items()}, path)
    return path


def body_pose() -> nn.Module:
    from atelier.models.body_pose import BodyPose, BodyPoseSpec

    return BodyPose(BodyPoseSpec((4, 4, 4, 4), 4, 4, 4, 2))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ControlNetHED.pth": hed,
    "sk_model.pth": line_drawing,
    "sk_model2.pth": line_drawing,
    "table5_pidinet.pth": pidinet,
    "body_pose_model.pth": body_pose,
    "mlsd_large_512_fp32.pth": line_segments,
    "netG.pth": anime_lines,
    "scannet.pt": surface_normals,
}
"""By what their files are called."""
