"""Putting images side by side on one page, with words above the columns and beside the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from atelier.errors import BadInput
from atelier.request.events import Json
from atelier.request.infotext import pixel_hash, read, write
from atelier.request.infotext.settings import settings_of
from atelier.runtime.jobs.job import JobProgress, TooLarge
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.workers.kind import Bench, Kind, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.names import uploads_in
from atelier.runtime.workers.pictures import made_image
from atelier.vision.labelled import Labels, labelled, page_pixels

TEXT = 100_000
"""Characters of all labels together."""
PIXELS_A_SECOND = 20_000_000


class Sheet(BaseModel):
    """The fields of this kind. images: uploads, row by row; above, beside, title: the labels of each column, of each
    row and of the page, which may be empty; infotext: what the page says, beside the hash of its pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: tuple[str, ...] = Field(min_length=1)
    above: tuple[str, ...] = Field(min_length=1)
    beside: tuple[str, ...] = Field(min_length=1)
    title: str = ""
    infotext: str = Field(default="", max_length=TEXT)


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput, and TooLarge for more than fits on a page."""
    asked = asked_of(Sheet, fields)
    places = len(asked.above) * len(asked.beside)
    if len(asked.images) > min(places, bench.most.images):
        raise TooLarge(f"images: {len(asked.images)} are given, at most {min(places, bench.most.images)} are shown")
    if sum(map(len, (*asked.above, *asked.beside, asked.title))) > TEXT:
        raise BadInput(f"above, beside: at most {TEXT} characters are written")
    sizes = [bench.images.size(name) for name in asked.images]
    largest = max(width for width, _ in sizes), max(height for _, height in sizes)
    pixels = page_pixels(len(asked.above), len(asked.beside), largest)
    if pixels > bench.most.pixels:
        raise TooLarge(f"images: the page would have {pixels:,} pixels, at most {bench.most.pixels:,} are made")
    return Settled(asked.model_dump(mode="json"), cost=pixels / PIXELS_A_SECOND, uploads=uploads_in(fields))


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Makes the page."""
    asked = Sheet.model_validate(task.resolved)
    yield JobProgress(0, 1, images=1)
    columns = len(asked.above)
    images = {(n % columns, n // columns): bench.images.source(name).image for n, name in enumerate(asked.images)}
    page = labelled(images, Labels(asked.above, asked.beside, asked.title))
    said = settings_of(read(asked.infotext)).settings
    text = write(replace(said, pixel_hash=pixel_hash(page))) if asked.infotext else ""
    yield made_image(page, text, 0, said.seed)
    yield JobProgress(1, 1, images=1, share=1.0)


SPECS = (Kind("sheet", settle, perform),)
"""What A1111 calls a grid."""
