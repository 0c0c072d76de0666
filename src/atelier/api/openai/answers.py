"""What OpenAI's clients read."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from atelier.api.errors import Problem, Reply
from atelier.api.openai.asked import Common, Worded
from atelier.api.openai.exchange import Exchange
from atelier.api.service import ImageKind, Service
from atelier.api.signing import Ticket, token
from atelier.api.v1.errors import render as render_native
from atelier.runtime.jobs.job import Job, JobImage, Owner

_WORD = re.compile(r"\w+|[^\w\s]")
_PATCH = 16
"""Pixels of a side: a patch of the image counts as one token."""
_CODES = {"Unauthorized": "invalid_api_key", "QueueFull": "rate_limit_exceeded", "Throttled": "rate_limit_exceeded"}


class Picture(BaseModel):
    """One image: its bytes or where they are."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class InputDetails(BaseModel):
    image_tokens: int
    text_tokens: int


class Usage(BaseModel):
    """Estimates: words and marks of the prompt in, patches of 16 by 16 pixels in and out."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    total_tokens: int


class Images(BaseModel):
    """The answer of all three calls."""

    created: int
    data: list[Picture]
    background: Literal["opaque"] = "opaque"
    output_format: ImageKind
    quality: str
    size: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the images are handed over. base: of the server's address, where the answer names addresses."""

    kind: ImageKind
    compression: int
    base: str | None
    quality: str
    image_tokens: int = 0


def wanted(asked: Common, at: Exchange, pixels: int = 0) -> Wanted:
    """What a request says of it; pixels: of the images that it holds."""
    base = (at.settings.public_url or str(at.request.base_url)).rstrip("/") if asked.by_url else None
    tokens = pixels // _PATCH**2
    if not isinstance(asked, Worded):
        return Wanted("png", 90, base, "auto", tokens)
    compression = 100 if asked.output_compression is None else asked.output_compression
    return Wanted(asked.output_format or "png", compression, base, asked.quality or "auto", tokens)


async def answered(at: Exchange, job: Job, how: Wanted) -> Images:
    """All images of a job that is done."""
    data = [await picture(at, image, how) for image in job.images]
    return Images(
        created=int(job.created),
        data=data,
        output_format=how.kind,
        quality=how.quality,
        size=size_text(job.images),
        usage=usage(str(job.asked.get("prompt", "")), job.images, how),
    )


async def picture(at: Exchange, image: JobImage, how: Wanted) -> Picture:
    """One image: its bytes, or a signed address of them."""
    if how.base is not None:
        until = int(time.time()) + at.settings.url_seconds
        ticket = Ticket(image.id, at.owner.key, how.kind, how.compression, until)
        return Picture(url=f"{how.base}/v1/files/{token(ticket, at.settings.url_secret)}")
    data = await file(at.service, image.id, at.owner, how.kind, how.compression)
    return Picture(b64_json=base64.b64encode(data).decode())


async def file(service: Service, image_id: str, owner: Owner, kind: ImageKind, quality: int) -> bytes:
    """The bytes of an image in a format."""
    about, data = await service.image(image_id, owner)
    if about.format == kind:
        return data
    return await service.rendition(image_id, owner, kind=kind, quality=quality)


def size_text(images: tuple[JobImage, ...]) -> str:
    return f"{images[0].width}x{images[0].height}" if images else "auto"


def usage(prompt: str, images: tuple[JobImage, ...], how: Wanted) -> Usage:
    text = len(_WORD.findall(prompt))
    out = sum(max(1, image.width * image.height // _PATCH**2) for image in images)
    details = InputDetails(image_tokens=how.image_tokens, text_tokens=text)
    given = text + how.image_tokens
    return Usage(input_tokens=given, input_tokens_details=details, output_tokens=out, total_tokens=given + out)


def render(problem: Problem) -> Reply:
    """As the native API has it, but bad input is 400, and some codes are OpenAI's."""
    reply = render_native(problem)
    assert isinstance(reply.body, dict)
    error = reply.body["error"]
    assert isinstance(error, dict)
    code = "model_not_found" if problem.message.startswith("unknown model") else _CODES.get(problem.kind, problem.kind)
    return Reply(400 if problem.status == 422 else problem.status, {"error": {**error, "code": code}})
