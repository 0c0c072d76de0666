"""The album behind the fronts: the gallery of the store, beside the loop, and what listeners are told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from atelier.runtime.jobs.collection import Board, Change, Entry, Found, Wanted, Window
from atelier.runtime.jobs.job import Owner
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.workers.feed import Feed


class StoredAlbum:
    """Implements `Album`."""

    def __init__(self, store: JobStore, feed: Feed) -> None:
        self._store, self._feed = store, feed

    async def find(self, owner: Owner, wanted: Wanted, window: Window) -> Found:
        return await asyncio.to_thread(self._store.gallery.find, owner.key, wanted, window)

    async def entry(self, image_id: str, owner: Owner) -> Entry:
        return await asyncio.to_thread(self._store.gallery.entry, image_id, owner.key)

    async def change(self, owner: Owner, image_ids: Sequence[str], change: Change) -> int:
        count = await asyncio.to_thread(self._store.change_images, owner, image_ids, change)
        self._changed(owner, count)
        return count

    async def boards(self, owner: Owner) -> Sequence[Board]:
        return await asyncio.to_thread(self._store.gallery.boards.all, owner.key)

    async def make_board(self, owner: Owner, name: str) -> Board:
        board = await asyncio.to_thread(self._store.gallery.boards.make, owner.key, name)
        self._changed(owner)
        return board

    async def rename_board(self, owner: Owner, board_id: str, name: str) -> None:
        await asyncio.to_thread(self._store.gallery.boards.rename, owner.key, board_id, name)
        self._changed(owner)

    async def remove_board(self, owner: Owner, board_id: str) -> None:
        await asyncio.to_thread(self._store.gallery.boards.remove, owner.key, board_id)
        self._changed(owner)

    async def put(self, owner: Owner, board_id: str, image_ids: Sequence[str], *, inside: bool) -> Sequence[str]:
        gallery = self._store.gallery
        concerned = await asyncio.to_thread(lambda: gallery.put(owner.key, board_id, image_ids, inside=inside))
        self._changed(owner, len(concerned))
        return concerned

    def _changed(self, owner: Owner, count: int = 1) -> None:
        if count:
            self._feed.stream(owner.key).tell("gallery", "", {})
