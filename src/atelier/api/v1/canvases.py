"""Canvases: what one paints on, a document of one's own making each."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response
from pydantic import JsonValue

from atelier.api.caller import Behind, Caller
from atelier.api.errors import refuse
from atelier.api.v1.ids import CanvasId
from atelier.api.v1.shapes import CanvasEntryShape, CanvasShape, Page
from atelier.runtime.jobs.job import TooLarge, UnknownJob

routes = APIRouter(tags=["canvases"])
Document = Annotated[
    dict[str, JsonValue],
    Body(
        description="Any JSON object of up to 1 MB. name: what lists call it; uploads that are named in it are kept as "
        'long as it is ("upload:SHA256").'
    ),
]
Revision = Annotated[
    str | None,
    Header(
        pattern='^"[0-9]{1,9}"$', description='The ETag of what is replaced, "0" for nothing: 412 if another is there.'
    ),
]
_TAGGED: dict[int | str, dict[str, Any]] = {412: {"description": "It was changed elsewhere."}}


@routes.get("/v1/canvases")
async def listed(service: Behind, owner: Caller) -> Page[CanvasEntryShape]:
    """One's canvases; the one that was changed last comes first."""
    found = await service.easel.all(owner)
    return Page[CanvasEntryShape](data=[CanvasEntryShape.model_validate(entry) for entry in found])


@routes.get("/v1/canvases/{canvas_id}")
async def read(canvas_id: CanvasId, service: Behind, owner: Caller, response: Response) -> CanvasShape:
    """A canvas with its document."""
    found = await service.easel.read(canvas_id, owner)
    response.headers["ETag"] = f'"{found.entry.revision}"'
    return CanvasShape.model_validate({**_plain(found.entry), "document": found.document})


@routes.put("/v1/canvases/{canvas_id}", responses=_TAGGED)
async def put(
    canvas_id: CanvasId,
    body: Document,
    service: Behind,
    owner: Caller,
    response: Response,
    if_match: Revision = None,
) -> CanvasEntryShape:
    """Keeps a document under a name of one's choice, in place of the one that there is."""
    expected = None if if_match is None else int(if_match.strip('"'))
    try:
        entry = await service.easel.put(canvas_id, owner, body, expected)
    except TooLarge as error:
        raise refuse(413, str(error), kind="TooLarge") from None
    except UnknownJob as error:
        message = f"{error}: send it to /v1/uploads, or take it out of the document"
        raise refuse(422, message, field="body", kind="UnknownUpload") from None
    response.headers["ETag"] = f'"{entry.revision}"'
    return CanvasEntryShape.model_validate(entry)


@routes.delete("/v1/canvases/{canvas_id}", status_code=204)
async def delete(canvas_id: CanvasId, service: Behind, owner: Caller) -> None:
    """Removes a canvas; images that jobs made for it stay."""
    await service.easel.delete(canvas_id, owner)


def _plain(entry: object) -> dict[str, object]:
    return {name: getattr(entry, name) for name in CanvasEntryShape.model_fields}
