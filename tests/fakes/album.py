"""Albums for tests of HTTP: one without images, and a real one over a store that holds what a test made."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from atelier.api.desk import Desk, Staff
from atelier.runtime.jobs.collection import Board, Change, Entry, Found, Wanted, Window
from atelier.runtime.jobs.job import Job, NewJob, Owner, UnknownJob
from atelier.runtime.jobs.lease import MadeImage, Settled
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.workers.process import Command
from atelier.runtime.workers.remembered import Remembered

NOBODY = Command(("false",), {})


class EmptyAlbum:
    """Nobody has images or boards."""

    async def find(self, owner: Owner, wanted: Wanted, window: Window) -> Found:
        return Found((), 0)

    async def entry(self, image_id: str, owner: Owner) -> Entry:
        raise UnknownJob(f"{image_id!r} is no image of yours")

    async def change(self, owner: Owner, image_ids: Sequence[str], change: Change) -> int:
        return 0

    async def boards(self, owner: Owner) -> Sequence[Board]:
        return ()

    async def make_board(self, owner: Owner, name: str) -> Board:
        return Board("b" * 32, name, 0.0)

    async def rename_board(self, owner: Owner, board_id: str, name: str) -> None:
        raise UnknownJob(f"{board_id!r} is no board of yours")

    async def remove_board(self, owner: Owner, board_id: str) -> None:
        raise UnknownJob(f"{board_id!r} is no board of yours")

    async def put(self, owner: Owner, board_id: str, image_ids: Sequence[str], *, inside: bool) -> Sequence[str]:
        raise UnknownJob(f"{board_id!r} is no board of yours")


def idle_desk(store: JobStore, folder: Path) -> Desk:
    """A desk whose processes are not started: it answers what the store knows."""
    return Desk(store, Staff(NOBODY, [NOBODY]), Remembered(folder / "catalogue.json", "1.2.3"))


def said(prompt: str, *, seed: int = 7, steps: int = 20, sampler: str = "Euler a", negative: str = "blurry") -> str:
    """An infotext as A1111 writes it."""
    return (
        f"{prompt}\nNegative prompt: {negative}\nSteps: {steps}, Sampler: {sampler}, Schedule type: Karras, "
        f"CFG scale: 7.5, Seed: {seed}, Size: 64x48, Model hash: abcdef0123, Model: sd-v1.5, Version: 1.0"
    )


def picture(number: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A PNG that differs from those of other numbers."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (number * 37 % 256, number * 101 % 256, number * 59 % 256)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(store: JobStore, owner: Owner, *infotexts: str, seed: int = 7) -> Job:
    """A job that is done, with one image for each infotext."""
    job = store.accept(NewJob("generate", {"prompt": "a"}), owner, Settled()).job
    claimed = store.claim("w")
    assert claimed is not None
    for index, text in enumerate(infotexts):
        data = picture(seed + index)
        store.add_image(claimed.lease, MadeImage(index, seed + index, 64, 48, "png", text, data, b"small"))
    assert store.finish(claimed.lease).id == job.id
    return store.job(job.id, owner)
