"""What a finished training of a part leaves in its run folder: averaged weights and the settings that shape them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from atelier.errors import BadFile

SETTINGS, WEIGHTS = "part.json", "part.safetensors"


def write_part(run: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Path:
    save_file({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, run / WEIGHTS)
    (run / SETTINGS).write_text(json.dumps(settings, indent=1))
    return run / WEIGHTS


def part_settings(run: Path, kind: str) -> dict[str, Any]:
    """Raises BadFile naming the training that has to come first."""
    try:
        settings: dict[str, Any] = json.loads((run / SETTINGS).read_text())
    except (OSError, ValueError):
        raise BadFile(run, f"holds no finished training; run `atelier train {kind} --out {run}` first") from None
    if settings.get("kind") != kind:
        raise BadFile(run, f"holds a training of {settings.get('kind')}, not of {kind}")
    return settings


def part_weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / WEIGHTS)
