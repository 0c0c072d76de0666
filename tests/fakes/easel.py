"""Canvases in memory, as the store keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atelier.request.events import Json
from atelier.runtime.jobs.canvases import Canvas, CanvasEntry, Changed
from atelier.runtime.jobs.job import Owner, TooLarge, UnknownJob


@dataclass(slots=True)
class FakeEasel:
    """limit: characters of a document."""

    limit: int = 1000
    kept: dict[tuple[str, str], Canvas] = field(default_factory=dict[tuple[str, str], Canvas])

    async def all(self, owner: Owner) -> Sequence[CanvasEntry]:
        return [canvas.entry for (key, _), canvas in self.kept.items() if key == owner.key]

    async def read(self, canvas_id: str, owner: Owner) -> Canvas:
        if (owner.key, canvas_id) not in self.kept:
            raise UnknownJob(canvas_id)
        return self.kept[owner.key, canvas_id]

    async def put(
        self, canvas_id: str, owner: Owner, document: Mapping[str, Json], expected: int | None = None
    ) -> CanvasEntry:
        if len(str(document)) > self.limit:
            raise TooLarge("a canvas of 1001 bytes is too large: at most 1000 are kept")
        if "upload:" in str(document):
            raise UnknownJob("'upload:0' is no upload of yours: send the image first")
        old = self.kept.get((owner.key, canvas_id))
        there = old.entry.revision if old else 0
        if expected not in {None, there}:
            raise Changed(f"the canvas was changed elsewhere: it is at revision {there}, read it again")
        entry = CanvasEntry(canvas_id, str(document.get("name", "")), there + 1, 1.0, 2.0)
        self.kept[owner.key, canvas_id] = Canvas(entry, document)
        return entry

    async def delete(self, canvas_id: str, owner: Owner) -> None:
        await self.read(canvas_id, owner)
        del self.kept[owner.key, canvas_id]
