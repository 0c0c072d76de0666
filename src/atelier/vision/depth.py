"""Estimating how far away what an image shows is, by DPT (Ranftl 2021, arXiv:2103.13413) as transformers builds it.

transformers is optional (`pip install 'atelier[depth]'`). It is given a local folder, safetensors alone, and runs no
code from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.errors import BadFile, BadInput

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

PACKAGE = "transformers"
INSTALL = "pip install 'atelier[depth]'"
FOLDER, READER = "depth_estimator", "feature_extractor"
"""Where a diffusers folder keeps the network, and what makes its input of an image."""


@dataclass(frozen=True, slots=True)
class DepthEstimator:
    """net: a DPTForDepthEstimation; reads: its DPTImageProcessor."""

    net: Any
    reads: Any
    device: torch.device

    def depths(self, image: Image) -> Tensor:
        """(1, 1, h, w) in the network's own size: larger is nearer, on no scale."""
        import torch

        pixels = self.reads(images=image, return_tensors="pt").pixel_values.to(self.device)
        with torch.no_grad():
            return self.net(pixels).predicted_depth[:, None].float().cpu()


def estimator_in(model: Path) -> Path | None:
    """The folder of the estimator in the folder of a model; None where there is none."""
    return model if (model / FOLDER / "config.json").is_file() else None


def check_installed() -> None:
    """Raises BadInput where transformers is not there."""
    if find_spec(PACKAGE) is None:
        raise BadInput(f"estimating depths needs {PACKAGE}: {INSTALL}, or give --depth")


def open_estimator(model: Path, device: torch.device) -> DepthEstimator:
    """The estimator in the folder of a model. Raises BadFile for one that transformers cannot open."""
    check_installed()
    return _opened(model / FOLDER, model / READER, "DPTForDepthEstimation", device, "give --depth")


def open_any_estimator(folder: Path, device: torch.device) -> DepthEstimator:
    """The estimator in a folder of transformers' own: DPT, Depth Anything (Yang 2024, arXiv:2406.09414) and whatever
    else it knows that reads images as they do.

    Raises BadFile for one that transformers cannot open, BadInput where it is not installed.
    """
    if find_spec(PACKAGE) is None:
        raise BadInput(f"estimating depths needs {PACKAGE}: {INSTALL}")
    return _opened(folder, folder, "AutoModelForDepthEstimation", device, "get it again")


def _opened(net: Path, reads: Path, kind: str, device: torch.device, way_out: str) -> DepthEstimator:
    library: Any = import_module(PACKAGE)
    try:
        made = getattr(library, kind).from_pretrained(net, use_safetensors=True, local_files_only=True)
        processor = library.DPTImageProcessor.from_pretrained(reads, local_files_only=True)
    except Exception as error:  # a library of many formats fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadFile(net, f"is no estimator of depths that can be used ({reason}): {way_out}") from error
    return DepthEstimator(made.to(device).eval(), processor, device)
