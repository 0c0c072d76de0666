"""What a finished training of a part leaves in its run folder: averaged weights and the settings that shape them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from atelier.errors import BadFile
from atelier.train import checkpoint
from atelier.weights.formats import safetensors
from atelier.weights.formats.atomic import new_file

S = TypeVar("S")

SETTINGS, WEIGHTS = "part.json", "part.safetensors"


def write_part(run: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Path:
    """The settings go first and come last, so that new weights never stand beside old settings. Raises StorageFull."""
    (run / SETTINGS).unlink(missing_ok=True)
    safetensors.save(run / WEIGHTS, {name: tensor.to(torch.float32) for name, tensor in tensors.items()})
    with new_file(run / SETTINGS) as file:
        file.write(json.dumps(settings, indent=1).encode())
    return run / WEIGHTS


def part_settings(run: Path, kind: str) -> dict[str, Any]:
    """Raises BadFile naming the training that has to come first."""
    try:
        settings: object = json.loads((run / SETTINGS).read_text())
    except (OSError, ValueError):
        raise BadFile(run, f"holds no finished training; run `atelier train {kind} --out {run}` first") from None
    found = cast("dict[str, Any]", settings) if isinstance(settings, dict) else {}
    if found.get("kind") != kind:
        raise BadFile(run, f"holds a training of {found.get('kind')}, not of {kind}")
    return found


def spec_in(run: Path, settings: Mapping[str, Any], key: str, build: Callable[..., S]) -> S:
    """The spec that the settings keep under `key`. Raises BadFile when it is not one."""
    table: object = settings.get(key)
    fields = cast("dict[str, Any]", table) if isinstance(table, dict) else {}
    tuples = {name: tuple(cast("list[Any]", v)) if isinstance(v, list) else v for name, v in fields.items()}
    try:
        return build(**tuples)
    except TypeError as error:
        raise BadFile(run / SETTINGS, f"is damaged ({key}: {error}); run the same training again") from None


def content(spec: object, tensors: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that change with the spec and with every bit of the tensors."""
    digest = hashlib.sha256(repr(spec).encode())
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(safetensors.tensor_bytes(tensor))
    return digest.hexdigest()[:16]


def part_weights(run: Path) -> dict[str, Tensor]:
    """The averaged weights by our names, float32. Raises BadFile."""
    return safetensors.load(safetensors.read_header(run / WEIGHTS), mapped=False)


def averaged_weights(run: Path, name: str) -> Mapping[str, Tensor]:
    """The averaged network `name` of a run's newest checkpoint. Raises BadFile."""
    newest = checkpoint.newest(run / checkpoint.FOLDER)
    if newest is None:
        raise BadFile(run, "holds no whole checkpoint; train first")
    tensors = checkpoint.load(newest).tensors
    if f"{name}.ema" not in tensors:
        raise BadFile(newest, f"holds no {name}: a run of another kind")
    return tensors[f"{name}.ema"]
