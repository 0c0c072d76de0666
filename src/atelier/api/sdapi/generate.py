"""POST txt2img and img2img."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from anyio import to_thread
from fastapi import APIRouter, Request

from atelier.api.caller import Caller
from atelier.api.sdapi import translate
from atelier.api.sdapi.answer import Picture, answer
from atelier.api.sdapi.at import image_label
from atelier.api.sdapi.bodies import Generation, Img2Img, Txt2Img
from atelier.api.sdapi.dialect import Dialect
from atelier.api.sdapi.fields import refused
from atelier.api.sdapi.layouts import Sheets, plain
from atelier.api.sdapi.maps import drawn
from atelier.api.sdapi.options import KINDS
from atelier.api.sdapi.routing import Answer, routes
from atelier.api.sdapi.sheets import made as on_pages
from atelier.api.sdapi.tolerant import whole
from atelier.api.sdapi.translate import Asked
from atelier.api.sdapi.waiting import done, looped, pictures, unsent, uploads, with_uploads
from atelier.api.sdapi.wording import IMAGES, in_their_words, names_of_generation
from atelier.api.service import Catalogue
from atelier.request.events import Json
from atelier.request.table import request_of
from atelier.runtime.jobs.job import NewJob, Owner
from atelier.runtime.workers.names import shown

B = TypeVar("B", Txt2Img, Img2Img)


def router(dialect: Dialect) -> APIRouter:
    """The two routes."""
    made = routes()

    @made.post("/txt2img")
    async def txt2img(body: Txt2Img, request: Request, owner: Caller) -> Answer:
        """Generates from words."""
        asked = await translated(translate.txt2img, dialect, body)
        return await generated(dialect, request, owner, body, asked)

    @made.post("/img2img")
    async def img2img(body: Img2Img, request: Request, owner: Caller) -> Answer:
        """Generates from an image."""
        asked = await translated(translate.img2img, dialect, body)
        return await generated(dialect, request, owner, body, asked)

    return made


async def translated(
    translator: Callable[[B, Catalogue, Mapping[str, Json]], Asked], dialect: Dialect, body: B
) -> Asked:
    """What a body asks for, beside the event loop: an infotext in it takes its time. Raises what `translator` does."""
    catalogue = await dialect.service.catalogue()
    return await to_thread.run_sync(translator, body, catalogue, dialect.changed)


async def generated(
    dialect: Dialect, request: Request, owner: Owner, body: Generation, asked: Asked
) -> dict[str, Json]:
    """Does what is asked for and answers with it. Refusals name the fields of the body."""
    names = names_of_generation(body, dialect.changed)
    with in_their_words(names):
        for fields in asked.runs.fields:
            request_of({name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
        options = output(dialect.changed, body.override_settings)
        named = await uploads(dialect, owner, asked.images)
        names |= {shown(upload): image_label(name) for name, upload in named.items() if name not in IMAGES}
        return await _generated(dialect, request, owner, body, asked, named, options)


async def _generated(
    dialect: Dialect,
    request: Request,
    owner: Owner,
    body: Generation,
    asked: Asked,
    named: Mapping[str, str],
    options: dict[str, object],
) -> dict[str, Json]:
    runs = [with_uploads(fields, named) for fields in asked.runs.fields]
    work = dialect.begin(owner, body.force_task_id or "", len(runs))
    if asked.runs.loops is None:
        jobs = await done(dialect, request, owner, [NewJob("generate", fields) for fields in runs], work)
    else:
        jobs = await looped(dialect, request, owner, runs, work)
    made = await pictures(dialect, owner, jobs, options) if body.send_images else unsent(jobs)
    sheets = asked.runs.sheets or grid(dialect, body, len(made))
    told, extra = list(asked.warnings), dict(asked.runs.extra)
    pages: list[Picture] = []
    if sheets is not None and body.send_images:
        pages = await on_pages(dialect, request, owner, sheets, jobs, extra, options, told)
    only = sheets is not None and sheets.only and bool(pages)
    maps: list[str] = []
    if asked.maps and body.send_images:
        maps = await drawn(dialect, request, owner, asked, named, jobs, options, told)
    return answer(body, runs[0], jobs, made, pages=pages, only_pages=only, maps=maps, warnings=told, extra=extra)


def grid(dialect: Dialect, body: Generation, count: int) -> Sheets | None:
    """The page that A1111 sends before several images, where they are to be saved."""
    wanted = {**dialect.changed, **body.override_settings}.get("return_grid", True)
    return plain(count) if wanted and body.save_images and not body.do_not_save_grid and count > 1 else None


def output(kept: Mapping[str, Json], own: Mapping[str, object]) -> dict[str, object]:
    """The options of the files that are sent. Raises Refused (422)."""
    options = {**kept, **own}
    kind = str(options.get("samples_format") or "png").casefold()
    if kind not in KINDS:
        message = f"Invalid image format: samples_format {kind[:40]!r}; one of {', '.join(KINDS)}"
        raise refused(message, "override_settings")
    said = options.get("jpeg_quality")
    try:
        quality = min(100, max(1, whole(80 if said is None else said)))
    except ValueError as error:
        raise refused(f"jpeg_quality: {error}", "override_settings") from None
    return {"samples_format": kind, "jpeg_quality": quality}
