"""Doing jobs while a client waits: when the client goes away, so do they."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from fastapi import Request

from atelier.api.errors import Problem, Refused
from atelier.api.sdapi.answer import Picture, encoded
from atelier.api.sdapi.at import image_label
from atelier.api.sdapi.dialect import Dialect, Work
from atelier.api.sdapi.fields import Fields
from atelier.api.sdapi.options import KINDS
from atelier.api.sdapi.unit import UPLOAD
from atelier.api.sdapi.wording import IMAGES
from atelier.api.service import ImageKind
from atelier.api.uploads import submitted, uploaded
from atelier.errors import AtelierError
from atelier.runtime.jobs.job import Job, JobImage, NewJob, Owner, State
from atelier.runtime.workers.names import SPOKEN, as_large_as

GONE = 499
"""The status for a client that closed the connection; nobody sees it."""


async def done(dialect: Dialect, request: Request, owner: Owner, runs: Sequence[NewJob], work: Work) -> list[Job]:
    """The jobs, done one after the other; a cancelled one is the last. Raises Refused for one that failed."""
    jobs: list[Job] = []
    try:
        for new in runs:
            jobs.append(await one(dialect, request, owner, new, work))
            if jobs[-1].state is State.CANCELLED:
                break
    finally:
        work.ended = True
    return jobs


async def looped(dialect: Dialect, request: Request, owner: Owner, runs: Sequence[Fields], work: Work) -> list[Job]:
    """The jobs, each generated from the first image of the one before."""
    jobs: list[Job] = []
    source: str | None = None
    try:
        for fields in runs:
            given: Fields = {**fields, "batch_size": 1, "batch_count": 1}
            given = _with_mask({**given, "image": source} if source else given)
            jobs.append(await one(dialect, request, owner, NewJob("generate", given), work))
            if jobs[-1].state is State.CANCELLED or not jobs[-1].images:
                break
            _, data = await dialect.service.image(jobs[-1].images[0].id, owner)
            source = await dialect.service.upload(data, owner)
    finally:
        work.ended = True
    return jobs


async def one(dialect: Dialect, request: Request, owner: Owner, new: NewJob, work: Work) -> Job:
    """A job, done or cancelled. Raises Refused for one that failed, and where the client has gone."""
    job = await submitted(dialect.service, new, owner)
    work.job = job.id
    ended = await _unless_gone(dialect, request, owner, job.id)
    work.done += 1
    if ended.state not in {State.DONE, State.CANCELLED}:
        raise failed(ended)
    return ended


async def _unless_gone(dialect: Dialect, request: Request, owner: Owner, job_id: str) -> Job:
    """The job once it ended; it is cancelled when the client closes the connection, or the call is given up."""
    waiting = asyncio.ensure_future(dialect.service.ended(job_id, owner))
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({waiting, watching}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        with suppress(AtelierError):
            await dialect.service.cancel(job_id, owner)
        raise Refused(Problem(GONE, "Disconnected", "the client closed the connection"))
    finally:
        for task in (waiting, watching):
            task.cancel()
        await asyncio.gather(waiting, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def failed(job: Job) -> Refused:
    """Why a job has no result."""
    if job.error is None:
        message = f"the job {job.id} ended as {job.state}; its images were not all made"
        return Refused(Problem(500, "RuntimeError", message))
    status = 422 if job.error.exit_code == 2 else 500
    return Refused(Problem(status, job.error.kind, job.error.message))


async def pictures(dialect: Dialect, owner: Owner, jobs: Sequence[Job], options: Mapping[str, object]) -> list[Picture]:
    """The images of jobs, in the format that the options ask for."""
    kind = KINDS[str(options.get("samples_format", "png")).casefold()]
    quality = int(str(options.get("jpeg_quality", 80)))
    return [
        Picture(encoded(await _file(dialect, owner, image, kind, quality)), *_said(job, image))
        for job in jobs
        for image in job.images
    ]


def unsent(jobs: Sequence[Job]) -> list[Picture]:
    """The images of jobs without their files."""
    return [Picture("", *_said(job, image)) for job in jobs for image in job.images]


def _said(job: Job, image: JobImage) -> tuple[str, int, int]:
    """What is known of an image: its infotext, its seed, and the seed of its variation, -1 where there is none."""
    samples = (job.resolved or {}).get("samples")
    own = samples[image.index] if isinstance(samples, list) and image.index < len(samples) else None
    variation = own.get("variation_seed") if isinstance(own, dict) else None
    return image.infotext, image.seed or 0, variation if isinstance(variation, int) else -1


async def _file(dialect: Dialect, owner: Owner, image: JobImage, kind: ImageKind, quality: int) -> bytes:
    if kind == image.format:
        return (await dialect.service.image(image.id, owner))[1]
    return await dialect.service.rendition(image.id, owner, kind=kind, quality=quality)


async def uploads(dialect: Dialect, owner: Owner, images: Mapping[str, str]) -> dict[str, str]:
    """The names of uploads by what stands for images until they are there."""
    return {
        name: await uploaded(dialect.service, owner, text, IMAGES.get(name) or image_label(name))
        for name, text in images.items()
    }


def with_uploads(fields: Fields, named: Mapping[str, str]) -> Fields:
    """A request with the names of uploads in place of what stood for its images."""
    found: Fields = {**fields, **{name: upload for name, upload in named.items() if name in fields}}
    for name in IMAGES.keys() & found.keys():
        found[name] = spoken(str(found[name]), named)
    for name in SPOKEN & found.keys():
        texts = found[name]
        found[name] = [spoken(str(text), named) for text in texts] if isinstance(texts, list) else texts
    return _with_mask(found)


def spoken(text: str, named: Mapping[str, str]) -> str:
    """The same of a text that names images among other things."""
    for name, upload in named.items():
        text = text.replace(f"{UPLOAD}{name}", upload)
    return text


def _with_mask(fields: Fields) -> Fields:
    """The same; a mask of another size than the image is brought to the image's, as in A1111."""
    image, mask = fields.get("image"), fields.get("mask")
    if not (isinstance(image, str) and isinstance(mask, str)):
        return fields
    return {**fields, "mask": as_large_as(mask, image)}
