"""What happens to a job of a server, as it happens: a lost connection is made again, and nothing is told twice."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from atelier.cli.remote import Server, ServerRefused, job_path, refusal, unreachable
from atelier.errors import AtelierError, BadInput
from atelier.request.events import Event, Failed, Finished, ImageReady, Preview, Progress, Saved, Started, Warned

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from atelier.runtime.store import Destination

TRIES = 8
"""Connections in a row that fail before one gives up: half a minute."""
LONGEST_WAIT = 8.0
ENDED = frozenset({"done", "failed", "cancelled", "timed_out", "quarantined"})
Sleep = Callable[[float], None]


class JobEnded(AtelierError):
    """A job that has no result: it failed, or was stopped."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the server. number: 0 where it has none."""

    number: int
    name: str
    data: Mapping[str, Any]


def parsed(lines: Iterable[str]) -> Iterator[Told]:
    """Server-sent events, from the lines of a stream; what is no event of ours is passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line == "":
            if "data" in fields:
                yield from _told(fields)
            fields = {}
            continue
        name, _, value = line.partition(":")
        if name:
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value


def _told(fields: Mapping[str, str]) -> Iterator[Told]:
    try:
        data = json.loads(fields["data"])
    except ValueError:
        return
    number = fields.get("id", "0")
    if isinstance(data, dict):
        said = cast("dict[str, Any]", data)
        yield Told(int(number) if number.isdecimal() else 0, fields.get("event", "message"), said)


def followed(server: Server, job: str, sleep: Sleep = time.sleep) -> Iterator[Told]:
    """The events of a job from the first one on, until it has ended. Raises Unreachable where the server stays away."""
    last = failures = 0
    while True:
        try:
            for told in _stream(server, job, last):
                failures = 0
                last = max(last, told.number)
                yield told
            if str(server.object(job_path(job))["state"]) in ENDED:
                return
        except AtelierError as error:
            failures += 1
            if not _may_pass(error) or failures >= TRIES:
                raise
            sleep(min(LONGEST_WAIT, 0.25 * 2**failures))


def _may_pass(error: AtelierError) -> bool:
    """Whether it is worth to try again: nobody answered, or not yet."""
    return not isinstance(error, ServerRefused) or error.status in {502, 503, 504}


def _stream(server: Server, job: str, last: int) -> Iterator[Told]:
    import httpx

    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(last)} if last else {})}
    try:
        with server.client.stream("GET", job_path(job, "/events"), headers=headers) as answer:
            if answer.is_error:
                answer.read()
                raise refusal(server.url, answer)
            yield from parsed(answer.iter_lines())
    except httpx.HTTPError as error:
        raise unreachable(server.url, error) from None


@dataclass(slots=True)
class Watching:
    """A job that is watched. to: where its images are saved, None = nowhere. seen: ids of images that were told."""

    server: Server
    job: str
    to: Destination | None = None
    seen: set[str] = field(default_factory=set[str])
    started: bool = False

    def events(self, sleep: Sleep = time.sleep) -> Generator[Event]:
        """The same events that a generation here tells. The last one is Finished or Failed."""
        try:
            for told in followed(self.server, self.job, sleep):
                yield from self._event(told)
            yield from self._ending(self.server.object(job_path(self.job)))
        except AtelierError as error:
            yield Failed(error)

    def _event(self, told: Told) -> Iterator[Event]:
        match told.name:
            case "progress":
                yield from self._progress(told.data)
            case "preview":
                yield Preview(int(told.data.get("index", 0)), image_of(base64.b64decode(str(told.data["image"]))))
            case "image":
                yield from self._finished(told.data, int(told.data.get("images", 0)))
            case "warning":
                yield Warned(str(told.data.get("message", "")))
            case _:
                pass

    def _progress(self, data: Mapping[str, Any]) -> Iterator[Event]:
        if not self.started:
            self.started = True
            yield Started(int(data["images"]), int(data["total"]))
        yield Progress(int(data["done"]), int(data["total"]), int(data["image"]))

    def _finished(self, data: Mapping[str, Any], count: int) -> Iterator[Event]:
        """An image, once; it is fetched where it is shown or saved."""
        name = str(data["id"])
        if name in self.seen:
            return
        self.seen.add(name)
        if self.to is None:
            return
        file = self.server.get(f"/v1/images/{name}").content
        image, index, seed = image_of(file), int(data["index"]), int(data.get("seed") or 0)
        yield ImageReady(index, seed, image, str(data.get("infotext", "")))
        yield Saved(index, put(self.to, file, image, index, max(count, self._count()), seed))

    def _count(self) -> int:
        """How many images the job makes in all."""
        found = self.server.object(job_path(self.job))
        return max(int(found["progress"]["images"]), len(found["images"]))

    def _ending(self, found: Mapping[str, Any]) -> Iterator[Event]:
        for image in found["images"]:
            yield from self._finished(image, len(found["images"]))
        state = str(found["state"])
        if state == "done":
            seconds = float(found["ended"] or 0) - float(found["started"] or found["created"])
            yield Finished(len(found["images"]), max(0.0, seconds))
        else:
            yield Failed(ended(self.job, state, found.get("error")))


def ended(job: str, state: str, error: Mapping[str, Any] | None) -> AtelierError:
    """Why a job has no result, in one line."""
    if error:
        return JobEnded(f"job {job}: {error.get('message', state)}")
    return JobEnded(f"job {job}: it was {state.replace('_', ' ')}")


def put(to: Destination, file: bytes, image: Image, index: int, count: int, seed: int) -> Path:
    """Saves the file of an image: a PNG as it is, else in the format that is asked for, with its infotext."""
    if to.suffix == ".png":
        return to.put(file, index=index, count=count, seed=seed)
    return to.save(image, str(image.info.get("parameters", "")), index=index, count=count, seed=seed)


def image_of(file: bytes) -> Image:
    """The image that the server sent. Raises BadInput for what is none."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(file), formats=("PNG", "JPEG", "WEBP"))
        image.load()
    except (OSError, ValueError) as error:
        raise BadInput(f"the server sent no image ({error})") from None
    return image
