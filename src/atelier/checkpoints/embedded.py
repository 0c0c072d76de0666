"""The model that comes with the package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

EMBEDDED = "embedded"
"""Its name, wherever a model is named."""


def embedded_folder() -> Path:
    """Where it lies: a model in the diffusers layout."""
    return Path(str(files("atelier"))) / "data" / "embedded"


def embedded_controls() -> Mapping[str, Path]:
    """What steers it, by name: a file each."""
    folder = Path(str(files("atelier"))) / "data" / "controls"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
