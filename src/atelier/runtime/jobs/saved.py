"""The saved middle of a job: one file, replaced whole, that knows whether it is intact; of jobs that keep more on disk
until they end, a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection
from contextlib import suppress

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
    """Removes the state of a job that ended; what the disk keeps is removed at the next opening."""
    with suppress(StoreFailed):
        files.remove(name(job_id))
    shutil.rmtree(files.folder / RUNS / job_id, ignore_errors=True)


def sweep(files: Files, waiting: Collection[str]) -> None:
    """Removes the folders of all jobs but those that wait."""
    for folder in (files.folder / RUNS).glob("*"):
        if folder.name not in waiting:
            shutil.rmtree(folder, ignore_errors=True)


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
