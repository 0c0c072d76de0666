"""Images side by side on one page: what A1111 calls a grid, and sends before the images."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request

from atelier.api.errors import Refused
from atelier.api.sdapi.answer import Picture
from atelier.api.sdapi.dialect import Dialect, Work
from atelier.api.sdapi.layouts import Sheets
from atelier.api.sdapi.waiting import GONE, one, pictures
from atelier.errors import AtelierError
from atelier.request.events import Json
from atelier.request.infotext.pairs import joined
from atelier.runtime.jobs.job import Job, NewJob, Owner, State

MOST = 64
"""Images of a page: more are not put on one."""


async def made(
    dialect: Dialect,
    request: Request,
    owner: Owner,
    sheets: Sheets,
    jobs: Sequence[Job],
    extra: dict[str, Json],
    options: dict[str, object],
    warn: list[str],
) -> list[Picture]:
    """The pages; none where an image lacks, or where no page can be made, of which is told: the images are there."""
    images = [image for job in jobs for image in job.images]
    if any(job.state is not State.DONE for job in jobs) or len(images) < 2:
        return []
    if sheets.images > MOST:
        warn.append(f"no grid is made: at most {MOST} images are put on one")
        return []
    pages: list[Job] = []
    try:
        files = [(await dialect.service.image(image.id, owner))[1] for image in images]
        names = [await dialect.service.upload(file, owner) for file in files]
        for number, title in enumerate(sheets.titles):
            here = slice(number * sheets.images, (number + 1) * sheets.images)
            text = ", ".join(part for part in (images[here][0].infotext, joined(extra.items())) if part)
            fields = _fields(sheets, title, names[here], text)
            work = Work(owner.key, "", 1)
            pages.append(await one(dialect, request, owner, NewJob("sheet", fields), work))
    except (AtelierError, Refused) as error:
        if isinstance(error, Refused) and error.problem.status == GONE:
            raise
        warn.append(f"no grid is made: {error.problem.message if isinstance(error, Refused) else error}")
        return []
    return await pictures(dialect, owner, pages, options)


def _fields(sheets: Sheets, title: str, names: Sequence[str], infotext: str) -> dict[str, Json]:
    return {
        "images": list[Json](names),
        "above": list[Json](sheets.above),
        "beside": list[Json](sheets.beside),
        "title": title,
        "infotext": infotext,
    }
