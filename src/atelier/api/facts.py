"""What the server runs with: its processes, its folders and their disks, its limits, and what it keeps."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from atelier.api.service import FolderFacts, ServerFacts, WorkerFacts
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.workers.post import Post

NEAR = 32
"""Folders above one that is not there yet which are looked for, to tell of its disk."""


def server_facts(store: JobStore, posts: Iterable[Post], folders: Sequence[str], started: float) -> ServerFacts:
    """Asks the disks. started: seconds since 1970."""
    counts = store.counts()
    return ServerFacts(
        started=started,
        workers=tuple(map(_worker, posts)),
        limits={name: float(value) for name, value in asdict(store.limits).items() if math.isfinite(value)},
        kept={"outputs": counts.outputs, "uploads": counts.uploads, **store.kept()},
        models=tuple(folder_facts(Path(folder)) for folder in folders),
        data=folder_facts(store.folder),
        database=store.place,
    )


def folder_facts(folder: Path) -> FolderFacts:
    """Of a folder that need not be there: it is made once something is written into it."""
    near = next((place for place in (folder, *list(folder.absolute().parents)[:NEAR]) if place.is_dir()), None)
    free = total = 0
    if near is not None:
        usage = shutil.disk_usage(near)
        free, total = usage.free, usage.total
    writable = near is not None and os.access(near, os.W_OK)
    return FolderFacts(str(folder.absolute()), free, total, folder.is_dir(), writable)


def _worker(post: Post) -> WorkerFacts:
    free, total = post.device_memory
    return WorkerFacts(
        name=post.name,
        device=post.device,
        ready=post.is_ready,
        busy=post.job is not None,
        loaded=tuple(sorted(post.loaded)),
        device_free=free,
        device_total=total,
    )
