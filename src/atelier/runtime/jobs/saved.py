"""The saved middle of a job: one file, replaced whole, that knows whether it is intact; of jobs that keep more on disk
until they are done, a folder, with which another job can go on for a while where this one was stopped or failed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from atelier.runtime.jobs.files import STATES, Files
from atelier.runtime.jobs.job import StoreFailed
from atelier.runtime.jobs.lease import SavedState

RUNS = "runs"
"""The folder of the folders that jobs keep until they end, each called as its job."""


def name(job_id: str) -> str:
    """The file of a job's state."""
    return f"{STATES}/{job_id}"


def save(files: Files, job_id: str, state: SavedState) -> None:
    """Replaces the state of a job. Raises StoreFailed, and the earlier state is still there."""
    head = {"image": state.image, "step": state.step, "sha256": _digest(state.image, state.step, state.data)}
    files.write(name(job_id), json.dumps(head).encode() + b"\n" + state.data, "state")


def drop(files: Files, job_id: str) -> None:
    """Removes all of a job that is done; what the disk keeps is removed at the next opening."""
    with suppress(StoreFailed):
        files.remove(name(job_id))
    forget(files, job_id)


def leave(files: Files, job_id: str, now: float) -> None:
    """The same of a job that ended otherwise, but for its folder, which is kept from now on."""
    with suppress(StoreFailed):
        files.remove(name(job_id))
    with suppress(OSError):
        os.utime(run(files, job_id), (now, now))


def run(files: Files, job_id: str) -> Path:
    """The folder of a job."""
    return files.folder / RUNS / job_id


def runs(files: Files) -> set[str]:
    """The jobs that have one."""
    return {folder.name for folder in (files.folder / RUNS).glob("*")}


def forget(files: Files, job_id: str) -> None:
    """Removes the folder of a job."""
    shutil.rmtree(run(files, job_id), ignore_errors=True)


def expire(files: Files, alive: Collection[str], since: float, most: int) -> None:
    """Removes the folders of all jobs but of those that live: what was left before `since`, and the oldest ones of
    those that take more than `most` bytes together."""
    kept = 0
    for folder in sorted((files.folder / RUNS).glob("*"), key=_left, reverse=True):
        if folder.name in alive:
            continue
        kept += size(folder)
        if _left(folder) < since or kept > most:
            shutil.rmtree(folder, ignore_errors=True)


def size(folder: Path) -> int:
    """Bytes of all files in a folder, as far as they can be looked at."""
    total = 0
    for path, _, names in os.walk(folder):
        for file in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, file)).st_size  # noqa: PTH118 - os.walk gives text
    return total


def _left(folder: Path) -> float:
    """When a job left its folder; the beginning of time for one that is gone."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def load(files: Files, job_id: str) -> SavedState | None:
    """The state of a job; None where there is none, and where it was damaged: the job then begins anew."""
    try:
        head, newline, data = (files.read(name(job_id)) or b"").partition(b"\n")
        if not newline:
            return None
        said = json.loads(head)
        image, step, digest = int(said["image"]), int(said["step"]), str(said["sha256"])
    except (StoreFailed, ValueError, KeyError, TypeError):
        return None
    return SavedState(image, step, data) if digest == _digest(image, step, data) else None


def _digest(image: int, step: int, data: bytes) -> str:
    return hashlib.sha256(b"%d %d " % (image, step) + data).hexdigest()
