"""What a latent looks like without its autoencoder: a matrix beside the model, from channels to RGB."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile
from atelier.families.config import Config

FILE = "preview.json"
"""In the folder of a model; `scripts/fit_preview` writes it."""
METADATA = "preview_rgb"
"""The same in the metadata of a model's file, or of the denoiser's in a folder; `models convert` writes it."""


@dataclass(frozen=True, slots=True)
class RgbMatrix:
    """rows: one for each channel of the latent as the denoiser sees it, then what is added: R, G and B, 0 to 1."""

    rows: tuple[tuple[float, float, float], ...]

    def to_json(self) -> str:
        return json.dumps({"rows": self.rows}) + "\n"


def rgb_matrix(model: Checkpoint) -> RgbMatrix | None:
    """The model's own; None where there is none for its number of channels. Raises BadFile for a damaged one."""
    path = model.path / FILE
    if model.layout == "diffusers" and path.is_file():
        rows = _rows(Config.read(path).values.get("rows"), path)
    elif METADATA in model.metadata:
        rows = _rows(_parsed(model.metadata[METADATA], model.path), model.path)
    else:
        return None
    return RgbMatrix(rows) if len(rows) == model.latent.channels + 1 else None


def with_preview(model: Checkpoint) -> Checkpoint:
    """The same with its matrix in its metadata, which is written in every layout. Raises BadFile for a damaged one."""
    matrix = rgb_matrix(model)
    return model if matrix is None else replace(model, metadata={**model.metadata, METADATA: matrix.to_json().strip()})


def _parsed(text: str, path: Path) -> object:
    try:
        found = cast("object", json.loads(text))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadFile(path, f"is damaged ({METADATA} in its metadata): write it again from the model that it came from")
    return cast("dict[str, object]", found).get("rows")


def _rows(found: object, path: Path) -> tuple[tuple[float, float, float], ...]:
    rows = cast("list[object]", found) if isinstance(found, list) else []
    made: list[tuple[float, float, float]] = []
    for row in rows:
        numbers = cast("list[object]", row) if isinstance(row, list) else []
        rgb = [float(number) for number in numbers if isinstance(number, int | float)]
        if len(rgb) != 3 or len(numbers) != 3:
            raise BadFile(path, "is damaged (rows): make it again with scripts/fit_preview, or delete it")
        made.append((rgb[0], rgb[1], rgb[2]))
    return tuple(made)
