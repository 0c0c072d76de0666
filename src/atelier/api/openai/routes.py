"""The routes of OpenAI's dialect."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from atelier.api.caller import Behind, Setup
from atelier.api.errors import ABSENT, Refused
from atelier.api.openai.answers import Images, answered, file, wanted
from atelier.api.openai.asked import Common, Edit, Generation, Variation, Worded, fields_of
from atelier.api.openai.exchange import Asking, Exchange
from atelier.api.openai.forms import parsed, read, schema
from atelier.api.openai.streamed import Call, streamed
from atelier.api.service import ImageText
from atelier.api.signing import ticket
from atelier.api.uploads import decoded, has_alpha, kept, submitted
from atelier.api.v1.events import STREAM, EventStream
from atelier.api.v1.images import BINARY, Responses
from atelier.api.waiting import finished
from atelier.request.events import Json
from atelier.request.table import request_of
from atelier.runtime.jobs.job import NewJob, Owner

routes = APIRouter(tags=["openai"])
_STREAMS: Responses = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
_FILE: Responses = {200: {"content": BINARY, "description": "The file."}}
VARIATION_STRENGTH = 0.6
"""How much of an image a variation makes anew: its composition stays."""
Fields = dict[str, Json]


@routes.post("/v1/images/generations", response_model=Images, responses=_STREAMS)
async def generations(body: Generation, at: Asking) -> Images | Response:
    """Images from a prompt; LocalAI's `file` is an image to start from."""
    if body.file is None:
        return await _answer(at, body, {}, "image_generation")
    data = decoded(body.file, "file")
    about = await at.service.read_image(data)
    fields: Fields = {"image": await kept(at.service, at.owner, data, "file")}
    return await _answer(at, body, fields, "image_generation", about)


@routes.post("/v1/images/edits", response_model=Images, responses=_STREAMS, openapi_extra=schema(Edit, "image", "mask"))
async def edits(at: Asking) -> Images | Response:
    """An image made anew by a prompt: all of it, or what the mask leaves transparent."""
    form = await read(at.request)
    asked, data, mask = parsed(Edit, form), form.needed("image"), form.image("mask")
    about = await at.service.read_image(data)
    fields: Fields = {"image": await kept(at.service, at.owner, data, "image")}
    if mask is not None:
        fields["mask"] = await kept(at.service, at.owner, mask, "mask")
        fields["mask_mode"] = "Inpaint not masked" if has_alpha(mask) else "Inpaint masked"
    return await _answer(at, asked, fields, "image_edit", about)


@routes.post("/v1/images/variations", response_model=Images, openapi_extra=schema(Variation, "image"))
async def variations(at: Asking) -> Images | Response:
    """Images like another: by its prompt, if it tells one."""
    form = await read(at.request)
    asked, data = parsed(Variation, form), form.needed("image")
    about = await at.service.read_image(data)
    fields: Fields = {
        "image": await kept(at.service, at.owner, data, "image"),
        "denoising_strength": VARIATION_STRENGTH,
        "prompt": about.fields.get("prompt", ""),
        "negative_prompt": about.fields.get("negative_prompt", ""),
    }
    return await _answer(at, asked, fields, "image_edit", about)


@routes.get("/v1/files/{ticket}", response_model=None, responses=_FILE)
async def signed(
    text: Annotated[str, Path(alias="ticket", description="What an answer's url ends in.")],
    service: Behind,
    settings: Setup,
) -> Response:
    """An image by its signed address: needs no key, and holds for a while."""
    found = ticket(text, settings.url_secret)
    if found is None:
        raise Refused(ABSENT)
    data = await file(service, found.image, Owner(found.owner, admin=False), found.kind, found.quality)
    headers = {"Cross-Origin-Resource-Policy": "cross-origin", "Referrer-Policy": "no-referrer"}
    return Response(data, media_type=f"image/{found.kind}", headers=headers)


async def _answer(
    at: Exchange, asked: Common, fields: Fields, call: Call, about: ImageText | None = None
) -> Images | Response:
    """Makes the job, and waits for it or streams it. fields: what the call settles; what was asked goes first."""
    shape = None if about is None else (about.width, about.height)
    fields = {**fields, **fields_of(asked, await at.service.catalogue(), shape)}
    request_of(fields)
    how = wanted(asked, at, 0 if about is None else about.width * about.height)
    job = await submitted(at.service, NewJob("generate", fields, 0, at.key), at.owner)
    if isinstance(asked, Worded) and asked.stream:
        text = streamed(at, job, how, call, asked.partial_images or 0)
        return EventStream(text, headers=dict(STREAM))
    ended = await finished(at.request, at.service, job, at.owner, alone=at.key is None)
    return await answered(at, ended, how)
