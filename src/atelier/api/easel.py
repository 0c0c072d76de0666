"""The easel behind the fronts: the canvases of the store, beside the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from atelier.request.events import Json
from atelier.runtime.jobs.canvases import Canvas, CanvasEntry
from atelier.runtime.jobs.job import Owner
from atelier.runtime.jobs.store import JobStore


class StoredEasel:
    """Implements `Easel`."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def all(self, owner: Owner) -> Sequence[CanvasEntry]:
        return await asyncio.to_thread(self._store.canvases.all, owner.key)

    async def read(self, canvas_id: str, owner: Owner) -> Canvas:
        return await asyncio.to_thread(self._store.canvases.read, canvas_id, owner.key)

    async def put(
        self, canvas_id: str, owner: Owner, document: Mapping[str, Json], expected: int | None = None
    ) -> CanvasEntry:
        return await asyncio.to_thread(self._store.canvases.put, canvas_id, owner.key, document, expected)

    async def delete(self, canvas_id: str, owner: Owner) -> None:
        await asyncio.to_thread(self._store.canvases.delete, canvas_id, owner.key)
