"""Networks in ONNX, which hold no code, run by onnxruntime. That is optional: `pip install 'atelier[faces]'`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.errors import BadFile, BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

PACKAGE = "onnxruntime"
INSTALL = "pip install 'atelier[faces]'"
SUFFIX = ".onnx"


def check_installed(does: str) -> None:
    """Raises BadInput where the package that runs the networks is not there. does: as in `open_network`."""
    if find_spec(PACKAGE) is None:
        raise BadInput(_missing(does))


def _missing(does: str) -> str:
    return f"{does} needs {PACKAGE}: {INSTALL}"


def open_network(path: Path, does: str) -> Any:  # noqa: ANN401 - onnxruntime is optional
    """A session of the network of a file. does: what for, as in "finding poses". Raises BadInput where onnxruntime is
    not installed, BadFile for what is no network."""
    import torch

    try:
        library: Any = import_module(PACKAGE)
    except ImportError as error:
        raise BadInput(_missing(does)) from error
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime fails in many ways on what is no network
        raise BadFile(path, "is no network in ONNX that can be read: it is damaged, get it again") from error


def input_size(session: Any, usual: tuple[int, int]) -> tuple[int, int]:  # noqa: ANN401 - a session of onnxruntime
    """(height, width) of the images that a network reads; the usual ones where it reads any."""
    shape: Sequence[object] = session.get_inputs()[0].shape
    height, width = shape[-2:]
    return (height if isinstance(height, int) else usual[0], width if isinstance(width, int) else usual[1])


def run(session: Any, image: NDArray[np.floating] | NDArray[np.uint8]) -> list[Floats]:  # noqa: ANN401 - a session of onnxruntime
    """All outputs for one image, (h, w, 3)."""
    import numpy as np

    given = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
    return [np.asarray(own, np.float32) for own in session.run(None, {session.get_inputs()[0].name: given})]
