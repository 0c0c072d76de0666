"""Upscalers of other architectures, built by spandrel (https://github.com/chaiNNer-org/spandrel), which is optional.

Files are read by our own readers, and spandrel is given the tensors: it never opens a file, and nothing is unpickled.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from atelier.errors import BadFile
from atelier.vision.reading import check_colours
from atelier.vision.upscaling import ScaleNet

if TYPE_CHECKING:
    import torch

    from atelier.weights.archive import Stored

PACKAGE = "spandrel"
INSTALL = "pip install 'atelier[upscale]'"
TILE = 192
"""Side in pixels of what is read at once; attention needs more memory than convolutions."""


def load(stored: Stored, device: torch.device, dtype: torch.dtype) -> ScaleNet:
    """Raises BadFile for a file that spandrel does not know, or where spandrel is not installed."""
    path = stored.archive.path
    try:
        spandrel = import_module(PACKAGE)
    except ImportError as error:
        raise BadFile(
            path, f"is an upscaler of a kind that is not built in: {INSTALL} reads more kinds, or use an ESRGAN"
        ) from error
    cut = len(stored.prefix)
    names = [name for name in stored.archive.tensors if name.startswith(stored.prefix)]
    tensors = {name[cut:]: tensor for name, tensor in stored.archive.load(names, mapped=False).items()}
    try:
        found: Any = spandrel.ModelLoader(device="cpu").load_from_state_dict(tensors)
    except Exception as error:  # spandrel's architectures fail in many ways on what is none of theirs
        raise BadFile(path, f"is no upscaler that {PACKAGE} knows: use another file") from error
    return _net(path, found, device, dtype)


def _net(path: object, found: Any, device: torch.device, dtype: torch.dtype) -> ScaleNet:  # noqa: ANN401 - untyped
    if found.purpose not in {"SR", "Restoration"} or found.input_channels != found.output_channels:
        raise BadFile(path, f"is a network for {found.purpose} by the name of {found.architecture.name}, no upscaler")
    check_colours(path, cast("int", found.input_channels))
    used = _precision(found, dtype)
    model = found.to(device, used).eval()
    return ScaleNet(model, cast("int", found.scale), device, used, _multiple(found), TILE)


def _precision(found: Any, dtype: torch.dtype) -> torch.dtype:  # noqa: ANN401 - untyped
    """The precision wanted where the network works in it, else fp32."""
    import torch

    works = {torch.float16: found.supports_half, torch.bfloat16: found.supports_bfloat16}
    return dtype if works.get(dtype) else torch.float32


def _multiple(found: Any) -> int:  # noqa: ANN401 - untyped
    return max(1, cast("int", found.size_requirements.multiple_of))
