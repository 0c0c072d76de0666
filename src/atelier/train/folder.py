"""The folder of a run: one recipe's, one process's at a time, cleared of what a killed run left half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from atelier.checkpoints.folder import INDEX
from atelier.errors import BadFile, BadInput, StorageFull
from atelier.train import checkpoint
from atelier.train.recipe import Recipe, differences, flat
from atelier.weights.formats.atomic import LEFT_OVER, new_file

RECIPE = "recipe.json"
LATENTS = "latents"
TEXTS = "texts"
"""Of a teaching: what text encoders made of captions."""
MODEL = "model"
"""The folder of a run that holds a whole model, where that is what it makes."""
WRITTEN_INTO = (checkpoint.FOLDER, "samples", f"{LATENTS}/*")
CLAIM = re.compile(r"\.tmp-\d{5,}")
"""What claims of latents are called."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def claimed(folder: Path, recipe: Recipe, *, accept_changes: bool = False) -> Generator[None]:
    """Inside, the folder exists, holds this recipe's run or none, and no other process is told that it may train there.

    The recipe is written into it, and taken back where a changed one is refused before it has trained. Raises BadInput
    when another process trains there or when it holds a run of another recipe (unless its changes are accepted),
    BadFile when it cannot be used or holds weights and no run that made them, StorageFull.
    """
    if folder.exists() and not folder.is_dir():
        raise BadFile(folder, "is a file: --out is the folder of a run")
    if (folder / INDEX).is_file():
        raise BadFile(folder, "is a model: --out is the folder of a run, give one of its own")
    _check_apart(folder, recipe)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder):
            _clear(folder)
            before, reached = _recorded(folder), checkpoint.newest(folder / checkpoint.FOLDER)
            if reached is None:
                _check_unspoilt(folder)
            if before is not None and not accept_changes and reached:
                refuse_changes(folder, differences(before, recipe))
            before_bytes = (folder / RECIPE).read_bytes() if before is not None and reached else None
            since = None if before_bytes is None else began(folder)
            _record(folder, recipe.model_dump_json(indent=1).encode(), since)
            try:
                yield
            except (BadFile, BadInput):
                if before_bytes is not None and checkpoint.newest(folder / checkpoint.FOLDER) == reached:
                    _record(folder, before_bytes, since)
                raise
            finally:
                _forget_if_nothing_came_of_it(folder)


def began(folder: Path) -> int | None:
    """When a run began, however often it went on since: nanoseconds since 1970; None where no recipe tells."""
    recipe = folder / RECIPE
    return recipe.stat().st_mtime_ns if recipe.is_file() else None


def _record(folder: Path, recipe: bytes, since: int | None) -> None:
    """since: when the run began, which the file's time of change tells; None: now."""
    with new_file(folder / RECIPE) as file:
        file.write(recipe)
    if since is not None:
        os.utime(folder / RECIPE, ns=(since, since))


def _check_apart(folder: Path, recipe: Recipe) -> None:
    """A run writes images: in a folder of training images they would be trained on. Raises BadFile, and BadInput where
    no training images are named."""
    said = dict(flat(recipe.model_dump(mode="json")))
    if said.get("data.source") == "":
        raise BadInput("data.source: no training images are named: give their folder, --set data.source=photos")
    for source in (said.get("data.source"), said.get("data.class_source")):
        if source and Path(source).is_dir() and folder.resolve().is_relative_to(Path(source).resolve()):
            raise BadFile(folder, f"lies in the folder of the training images, {source}: give --out a place of its own")


def _check_unspoilt(folder: Path) -> None:
    """For a folder without a checkpoint to go on from: results would be written over weights that lie there."""
    results = (*sorted(folder.glob("*.safetensors")), folder / MODEL / INDEX)
    if (found := next((path for path in results if path.exists()), None)) is not None:
        raise BadFile(
            found,
            "no checkpoint is left of a run that made it, and it might be replaced: give another --out, or move it",
        )


def refuse_changes(folder: Path, changes: list[str]) -> None:
    """Raises BadInput unless there are none."""
    if changes:
        named = ", ".join(changes[:3]) + (", …" if len(changes) > 3 else "")
        raise BadInput(
            f"{folder}: holds a run of another recipe ({named}): give another --out, the recipe it began with, or "
            "--accept-changes to go on with this one"
        )


@contextmanager
def writing(place: Path) -> Generator[None]:
    """Turns what the operating system refuses inside into one line: StorageFull or BadFile."""
    try:
        yield
    except OSError as error:
        culprit = error.filename or place
        if error.errno in FULL:
            raise StorageFull(f"{culprit}: the disk is full; free some space and run again") from error
        raise BadFile(culprit, f"cannot be used ({error.strerror or error})") from error


def locked(descriptor: int) -> bool:
    """Locks an open file or folder until it is closed; False when another process has it locked."""
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):  # a file system without locks: nobody is kept out
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


@contextmanager
def _held(folder: Path) -> Generator[None]:
    if sys.platform == "win32":  # folders cannot be opened there
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not locked(descriptor):
            raise BadInput(f"{folder}: another process trains there; wait for it, or give another --out")
        yield
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Removes what a killed run left half-written, where it writes and nowhere else."""
    for place in (folder, *(place for pattern in WRITTEN_INTO for place in folder.glob(pattern))):
        for left in place.glob(".tmp-*"):
            if LEFT_OVER.fullmatch(left.name) or CLAIM.fullmatch(left.name):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def _forget_if_nothing_came_of_it(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [RECIPE]:
            (folder / RECIPE).unlink()
            folder.rmdir()


def _recorded(folder: Path) -> Mapping[str, Any] | None:
    try:
        table: object = json.loads((folder / RECIPE).read_text())
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", table) if isinstance(table, dict) else None
