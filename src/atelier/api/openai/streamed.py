"""Partial images and then the finished ones, as server-sent events."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from starlette.exceptions import HTTPException

from atelier.api.background import spawn
from atelier.api.errors import problem_of
from atelier.api.openai.answers import Wanted, picture, render, size_text, usage
from atelier.api.openai.exchange import Exchange
from atelier.api.v1.events import ALIVE_SECONDS, paced, written
from atelier.api.waiting import done
from atelier.errors import AtelierError
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, JobEvent, JobImage

Call = Literal["image_generation", "image_edit"]
QUALITY = 80
"""Of a JPEG that stands for a preview."""


async def streamed(at: Exchange, job: Job, how: Wanted, call: Call, partial: int) -> AsyncIterator[str]:
    """`partial` previews, evenly over the steps, and then every image. A client that leaves cancels the job."""
    shown = _Shown(partial)
    try:
        async for text in _partial(at.service.events(job.id, at.owner), how, call, shown):
            yield text
        ended = done(await at.service.job(job.id, at.owner))
        async for text in _rest(at, ended, how, call, shown):
            yield text
        for image in ended.images:
            yield await _completed(at, ended, image, how, call)
    except (AtelierError, HTTPException) as error:
        body = render(problem_of(error)).body
        assert isinstance(body, dict)
        yield written("error", body)
    finally:
        spawn(at.request.app, _stop(at, job))


async def _stop(at: Exchange, job: Job) -> None:
    """Beside the stream, which may have been torn down; a job that has ended stays as it is."""
    with suppress(AtelierError):
        await at.service.cancel(job.id, at.owner)


@dataclass(slots=True)
class _Shown:
    """Partial images: wanted, and sent so far; newest: the last preview, in base64; is_new: whether it was not sent."""

    wanted: int
    sent: int = 0
    share: float = 0.0
    newest: str = ""
    is_new: bool = False

    def note(self, event: JobEvent) -> None:
        if event.name == "progress":
            self.share = _number(event.data.get("share"))
        elif event.name == "preview":
            self.newest, self.is_new = str(event.data["image"]), True

    @property
    def is_due(self) -> bool:
        """Whether the next part of the work is done, and there is something new to show."""
        return self.is_new and self.sent < self.wanted and self.share >= (self.sent + 1) / (self.wanted + 1)

    def data(self) -> dict[str, Json]:
        """The newest, as the next partial image."""
        said: dict[str, Json] = {
            "b64_json": self.newest,
            "partial_image_index": self.sent,
            "output_format": "jpeg",
        }
        self.sent, self.is_new = self.sent + 1, False
        return said


async def _partial(found: AsyncIterator[JobEvent], how: Wanted, call: Call, shown: _Shown) -> AsyncIterator[str]:
    """Each when its part of the work is done, as far as previews come: they are made a while apart."""
    async for event in paced(found, ALIVE_SECONDS):
        if event is None:
            yield ": alive\n\n"
            continue
        shown.note(event)
        if shown.is_due:
            yield _event(f"{call}.partial_image", shown.data(), how, "auto")


async def _rest(at: Exchange, job: Job, how: Wanted, call: Call, shown: _Shown) -> AsyncIterator[str]:
    """What lacks once the job is done: the last preview again, or the first image where there was time for none."""
    while shown.sent < shown.wanted and job.images:
        if not shown.newest:
            data = await at.service.rendition(job.images[0].id, at.owner, kind="jpeg", quality=QUALITY)
            shown.newest = base64.b64encode(data).decode()
        yield _event(f"{call}.partial_image", shown.data(), how, "auto")


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


async def _completed(at: Exchange, job: Job, image: JobImage, how: Wanted, call: Call) -> str:
    made = await picture(at, image, how)
    told = usage(str(job.asked.get("prompt", "")), (image,), how).model_dump()
    data: dict[str, Json] = {name: value for name, value in made.model_dump().items() if value is not None}
    return _event(f"{call}.completed", {**data, "output_format": how.kind, "usage": told}, how, size_text((image,)))


def _event(name: str, data: dict[str, Json], how: Wanted, size: str) -> str:
    about: dict[str, Json] = {
        "type": name,
        "created_at": int(time.time()),
        "size": size,
        "quality": how.quality,
        "background": "opaque",
    }
    return written(name, {**about, **data})
