"""Checkpoints of a training run: a directory that exists whole or not at all.

A checkpoint is written under a temporary name, each file synced, MANIFEST.json (SHA-256 of the files) last, then
renamed and the parent synced. The loader trusts only directories whose manifest holds.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from atelier.errors import BadFile, StorageFull
from atelier.weights.formats import safetensors
from atelier.weights.formats.atomic import new_file, new_folder

FOLDER = "checkpoints"
MANIFEST, STATE, SUFFIX = "MANIFEST.json", "state.json", ".safetensors"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """tensors: file stem -> name -> tensor; state: small JSON values (recipe digest, what the task adds)."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def save(folder: Path, snapshot: Snapshot, keep: int, spare: int | None = None) -> Path:
    """Writes `folder`/step-NNNNNNNN, then deletes the checkpoints before it but for the newest `keep` and step `spare`.

    Raises StorageFull, with every earlier checkpoint intact.
    """
    final = folder / f"step-{snapshot.step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with new_folder(final, overwrite=True) as place:
            _write(place, snapshot)
    except StorageFull as error:
        raise StorageFull(
            f"{final}: no space for this checkpoint; free some and run again (earlier ones are intact)"
        ) from error
    older = [path for step, path in _numbered(folder) if step <= snapshot.step and step != spare]
    for path in older[:-keep]:
        shutil.rmtree(path)
    return final


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint, passing over damaged ones."""
    return next((path for _, path in reversed(_numbered(folder)) if whole(path)), None)


def reached(folder: Path) -> int:
    """The step of the newest whole checkpoint, 0 where there is none."""
    return next((step for step, path in reversed(_numbered(folder)) if whole(path)), 0)


def saved(path: Path) -> float:
    """When a checkpoint was whole, seconds since 1970."""
    return (path / MANIFEST).stat().st_mtime


def after(folder: Path, path: Path | None) -> tuple[Path, ...]:
    """The checkpoints newer than `path` (all of them for None): those that `newest` passed over."""
    paths = [p for _, p in _numbered(folder)]
    return tuple(paths if path is None else paths[paths.index(path) + 1 :])


def whole(path: Path) -> bool:
    """Whether the manifest is there and every file matches it."""
    try:
        listed = json.loads((path / MANIFEST).read_text())["sha256"]
        return STATE in listed and all(_digest(path / name) == digest for name, digest in listed.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def state_of(path: Path) -> Mapping[str, Any]:
    """What a checkpoint says beside its tensors. Raises BadFile when it is damaged."""
    if not whole(path):
        raise BadFile(path, "is no whole checkpoint; go on from another one")
    return json.loads((path / STATE).read_text())


def load(path: Path, only: str = "") -> Snapshot:
    """Reads a checkpoint; of its files those alone whose names end in `only`. Raises BadFile when it is damaged."""
    state = dict(state_of(path))
    listed = json.loads((path / MANIFEST).read_text())["sha256"]
    files = sorted(name for name in listed if name.endswith(only + SUFFIX))
    return Snapshot(state.pop("step"), {name.removesuffix(SUFFIX): _tensors(path / name) for name in files}, state)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints, whole or not, from the oldest step to the newest."""
    named = ((re.fullmatch(r"step-(\d+)", path.name), path) for path in folder.glob("step-*"))
    return sorted((int(match[1]), path) for match, path in named if match and path.is_dir())


def _write(place: Path, snapshot: Snapshot) -> None:
    for stem, tensors in snapshot.tensors.items():
        safetensors.save(place / (stem + SUFFIX), tensors)
    _write_json(place / STATE, {"step": snapshot.step, **snapshot.state})
    digests = {file.name: _digest(file) for file in sorted(place.iterdir())}
    _write_json(place / MANIFEST, {"step": snapshot.step, "sha256": digests})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with new_file(path) as file:
        file.write(json.dumps(content, indent=1).encode())


def _tensors(path: Path) -> dict[str, Tensor]:
    return safetensors.load(safetensors.read_header(path), mapped=False)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
