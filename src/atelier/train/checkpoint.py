"""Checkpoints of a training run: a directory that exists whole or not at all.

A checkpoint is written to a temporary name, each file synced, MANIFEST.json (names, sizes and SHA-256 of the files)
written last, then renamed and the parent synced. The loader trusts only directories whose manifest holds.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from atelier.errors import BadFile, StorageFull

MANIFEST = "MANIFEST.json"
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """tensors: file stem -> name -> tensor; state: small JSON values (step, recipe digest, optimizer scalars)."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def save(folder: Path, snapshot: Snapshot, keep: int) -> Path:
    """Writes `folder`/step-NNNNNNNN, then deletes all but the newest `keep` checkpoints. Raises StorageFull."""
    final = folder / f"step-{snapshot.step:08d}"
    partial = folder / f".{final.name}.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _write(partial, snapshot)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"{final}: no space for this checkpoint; free some and resume (earlier ones are intact)"
            ) from error
        raise BadFile(final, f"cannot be written: {error.strerror}") from error
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if "No space left" in str(error):
            raise StorageFull(
                f"{final}: no space for this checkpoint; free some and resume (earlier ones are intact)"
            ) from error
        raise
    for old in sorted(_named(folder))[:-keep]:
        shutil.rmtree(old)
    return final


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint, passing over damaged ones."""
    return next((path for path in sorted(_named(folder), reverse=True) if whole(path)), None)


def whole(path: Path) -> bool:
    """Whether the manifest is there and every file matches it."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        return all(_digest(path / name) == digest for name, digest in manifest["sha256"].items())
    except (OSError, ValueError, KeyError):
        return False


def load(path: Path) -> Snapshot:
    """Reads a checkpoint back. Raises BadFile when it is damaged."""
    if not whole(path):
        raise BadFile(path, "is no whole checkpoint; resume from another one")
    state = json.loads((path / STATE).read_text())
    tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return Snapshot(state.pop("step"), tensors, state)


def _named(folder: Path) -> Iterator[Path]:
    return (p for p in folder.glob("step-*") if p.is_dir())


def _write(path: Path, snapshot: Snapshot) -> None:
    for stem, tensors in snapshot.tensors.items():
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path / f"{stem}.safetensors")
    (path / STATE).write_text(json.dumps({"step": snapshot.step, **snapshot.state}, indent=1))
    files = sorted(p for p in path.iterdir())
    for file in files:
        _sync(file)
    manifest = {"step": snapshot.step, "sha256": {file.name: _digest(file) for file in files}}
    (path / MANIFEST).write_text(json.dumps(manifest, indent=1))
    _sync(path / MANIFEST)
    _sync(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
