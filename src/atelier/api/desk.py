"""The service behind the fronts: jobs in a store, a process that settles them, and workers that do them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, cast

from atelier.api.album import StoredAlbum
from atelier.api.easel import StoredEasel
from atelier.api.facts import server_facts
from atelier.api.service import (
    AnnotatorEntry,
    Catalogue,
    ImageKind,
    ImageText,
    Memory,
    ModelEntry,
    NamedEntry,
    OptionEntry,
    SamplerEntry,
    SchedulerEntry,
    ServerFacts,
    StyleEntry,
)
from atelier.errors import AtelierError, BadInput
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, JobEvent, JobImage, NewJob, NotReady, Owner, State, UnknownJob, located
from atelier.runtime.jobs.lease import Counts, Settled
from atelier.runtime.jobs.limits import LONG
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.workers.asking import Asking
from atelier.runtime.workers.feed import Feed, Line
from atelier.runtime.workers.machine import memory, resident
from atelier.runtime.workers.messages import Message
from atelier.runtime.workers.names import uploads_in
from atelier.runtime.workers.places import outward
from atelier.runtime.workers.post import Post, Why
from atelier.runtime.workers.process import Command
from atelier.runtime.workers.remembered import Remembered

T = TypeVar("T")
WATCHING = 1.0
"""Seconds between two looks for jobs that ran out of time."""
PRUNING = 600.0
"""Seconds between two removals of what is too old or too much."""
EMBEDDED = "embedded"
MAKING = frozenset({"teach", "convert", "merge"})
"""Kinds of jobs that make files which requests can name."""
_log = logging.getLogger("atelier.server")


@dataclass(frozen=True, slots=True)
class Staff:
    """Who does the work. resolver, workers: how their processes are started. grace: seconds that a running job has to
    end when the server stops; lease: seconds without a sign of life after which a worker counts as dead."""

    resolver: Command
    workers: Sequence[Command]
    grace: float = 10.0
    lease: float = 30.0


@dataclass(slots=True)
class _Known:
    """What was found out and holds until it is asked for anew. default: the model where none is named; keeping: the
    tasks that keep processes alive, and end when these may end; looking: those that look at the store now and then."""

    default: str = EMBEDDED
    listed: Mapping[str, Json] | None = None
    keeping: list[asyncio.Task[None]] = field(default_factory=list["asyncio.Task[None]"])
    looking: list[asyncio.Task[None]] = field(default_factory=list["asyncio.Task[None]"])


class Desk:
    """Implements `Service`. `start` it within a running loop, and `stop` it before the loop ends."""

    def __init__(self, store: JobStore, staff: Staff, remembered: Remembered) -> None:
        self._store, self._staff, self._remembered = store, staff, remembered
        self._feed, self._asking, self._known = Feed(), Asking(staff.resolver), _Known()
        self.album = StoredAlbum(store, self._feed)
        self.easel = StoredEasel(store)
        self.posts = tuple(
            Post(f"worker-{number}", command, store, self._feed, lambda: self.model, self._made, lease=staff.lease)
            for number, command in enumerate(staff.workers, start=1)
        )
        self._is_stopping, self._started = False, time.time()
        store.set_workers(len(self.posts))

    @property
    def model(self) -> str:
        """The one that is used where none is named."""
        return self._known.default

    async def start(self) -> None:
        """Starts the processes, and waits for none of them."""
        keeping = (self._asking.run(), *(post.run() for post in self.posts))
        self._known.keeping.extend(asyncio.create_task(run) for run in keeping)
        self._known.looking.extend(asyncio.create_task(run) for run in (self._watch(), self._prune()))

    def drain(self) -> None:
        """From now on no job is accepted, and the server says that it is not ready."""
        self._is_stopping = True

    async def stop(self) -> None:
        """Lets running jobs end within the grace, gives the others back, ends all processes and closes the store."""
        self.drain()
        await asyncio.gather(*(post.leave(self._staff.grace) for post in self.posts))
        self._feed.close()
        await self._asking.close()
        for task in self._known.looking:
            task.cancel()
        await asyncio.gather(*self._known.keeping, *self._known.looking, return_exceptions=True)
        await self._stored(self._store.close)

    # Jobs.

    async def upload(self, data: bytes, owner: Owner) -> str:
        return await self._stored(lambda: self._store.upload(data, owner))

    async def uploaded(self, name: str, owner: Owner) -> bytes:
        return await self._stored(lambda: self._store.uploaded(name, owner))

    async def submit(self, job: NewJob, owner: Owner) -> Job:
        if self._is_stopping:
            raise NotReady("the server stops: send the job again when it is back", 10.0)
        if job.idempotency_key is not None:
            known = await self._stored(lambda: self._store.repeated(job, owner))
            if known is not None:
                return _seen(known)
        settled = await self._settled(job, owner)
        accepted = await self._stored(lambda: self._store.accept(job, owner, settled))
        if accepted.new:
            self._feed.accepted(accepted.job)
            for post in self.posts:
                post.wake()
        return _seen(accepted.job)

    async def job(self, job_id: str, owner: Owner) -> Job:
        return _seen(await self._stored(lambda: self._store.job(job_id, owner)))

    async def jobs(
        self,
        owner: Owner,
        *,
        limit: int = 100,
        before: str | None = None,
        states: Collection[State] = tuple(State),
        kind: str | None = None,
    ) -> Sequence[Job]:
        asked = partial(self._store.jobs, owner, limit=limit, before=before, states=states, kind=kind)
        found = await self._stored(asked)
        return [_seen(job) for job in found]

    async def alive(self, owner: Owner) -> Sequence[Job]:
        return [_seen(job) for job in await self._stored(lambda: self._store.alive(owner))]

    async def to_front(self, job_id: str, owner: Owner) -> Job:
        job = await self._stored(lambda: self._store.to_front(job_id, owner))
        self._feed.stream(owner.key).tell("queue", job_id, {})
        return _seen(job)

    async def cancel(self, job_id: str, owner: Owner) -> Job:
        job = await self._stored(lambda: self._store.cancel(job_id, owner))
        if job.state is State.RUNNING:
            for post in self.posts:
                await post.stop(job_id, Why.CANCELLED)
        else:
            self._feed.state(job)
        return _seen(job)

    async def delete(self, job_id: str, owner: Owner) -> None:
        await self._stored(lambda: self._store.delete(job_id, owner))
        self._feed.forget(job_id)
        self._feed.stream(owner.key).tell("gallery", job_id, {})

    async def ended(self, job_id: str, owner: Owner) -> Job:
        line = self._feed.of(job_id, owner.key) or self._feed.line(await self.job(job_id, owner))
        while line.ended is None:
            await self._change(line)
        return _seen(line.ended)

    async def events(self, job_id: str, owner: Owner, after: int = 0) -> AsyncIterator[JobEvent]:
        line = self._feed.line(await self.job(job_id, owner))
        while True:
            for event in line.after(after):
                after = event.number
                yield event
            if line.is_ended and not line.after(after):
                return
            if self._feed.is_closed:
                return
            if not line.after(after):
                await line.change()

    async def stream(self, owner: Owner, after: int | None = None) -> AsyncIterator[JobEvent]:
        told = self._feed.stream(owner.key)
        while not self._feed.is_closed:
            if after is None or told.has_gap(after):
                after = told.newest
                yield JobEvent(after, "reset", {})
                for event in told.standing():
                    yield replace(event, number=after)
            for event in told.after(after):
                after = event.number
                yield event
            if not told.after(after) and not self._feed.is_closed:
                await told.change()

    async def running(self, owner: Owner) -> Job | None:
        found = await self._stored(lambda: self._store.running(owner))
        return None if found is None else _seen(found)

    async def preview(self, job_id: str, owner: Owner) -> bytes | None:
        await self.job(job_id, owner)
        return self._feed.newest_preview(job_id)

    async def counts(self) -> Counts:
        return await self._stored(self._store.counts)

    # Images.

    async def image(self, image_id: str, owner: Owner) -> tuple[JobImage, bytes]:
        return await self._stored(lambda: self._store.image(image_id, owner))

    async def about(self, image_id: str, owner: Owner) -> JobImage:
        return await self._stored(lambda: self._store.about(image_id, owner))

    async def thumbnail(self, image_id: str, owner: Owner) -> bytes:
        small = await self._stored(lambda: self._store.thumbnail(image_id, owner))
        if small is not None:
            return small
        _, data = await self.image(image_id, owner)
        return (await self._asking.call("thumbnail", {}, data)).blobs[0]

    async def rendition(self, image_id: str, owner: Owner, *, kind: ImageKind, quality: int = 90) -> bytes:
        image, data = await self.image(image_id, owner)
        if kind == image.format:
            return data
        asked: dict[str, Json] = {"format": kind, "quality": quality, "infotext": image.infotext}
        return (await self._asking.call("rendition", asked, data)).blobs[0]

    async def explain(self, fields: Mapping[str, Json]) -> Mapping[str, Json]:
        return (await self._asking.call("explain", fields)).data

    async def wildcards(self) -> Sequence[str]:
        return cast("list[str]", (await self._asking.call("wildcards", {})).data["names"])

    async def read_image(self, data: bytes) -> ImageText:
        said = (await self._asking.call("read", {}, data)).data
        return ImageText(
            width=int(cast("int", said["width"])),
            height=int(cast("int", said["height"])),
            format=str(said["format"]),
            infotext=str(said["infotext"]),
            items=cast("dict[str, str]", said["items"]),
            fields=cast("dict[str, Json]", said["fields"]),
        )

    # Models and the machine.

    async def catalogue(self) -> Catalogue:
        """Until the resolver has started: what the last server knew. Clients ask for lists once, when they connect."""
        listed = self._known.listed or (None if self._asking.is_ready else self._remembered.listed)
        loaded = frozenset(name for post in self.posts for name in post.loaded)
        return _catalogue(listed or await self._listed(), self._known.default, loaded)

    async def refresh(self) -> None:
        await self._listed()

    async def load(self, model: str) -> None:
        self._known.default = (await self._asking.call("model", {"model": model})).text("model")
        for post in self.posts:
            await post.order(Message("load", {"model": self._known.default}))

    async def unload(self) -> None:
        for post in self.posts:
            await post.order(Message("unload"))

    async def weights(self) -> Sequence[Mapping[str, Json]]:
        return cast("list[dict[str, Json]]", (await self._asking.call("shelf", {})).data["files"])

    async def weight(self, name: str) -> Mapping[str, Json]:
        try:
            return (await self._asking.call("card", {"id": name})).object("card")
        except BadInput as error:
            raise UnknownJob(str(error)) from error

    async def forecast(self, fields: Mapping[str, Json]) -> Mapping[str, Json]:
        found = (await self._asking.call("forecast", {"fields": dict(fields)})).data
        cost = float(cast("float", found["cost"]))
        seconds = await self._stored(lambda: self._store.expected("teach", cost))
        return {**found, "seconds": cost if seconds is None else seconds, "measured": seconds is not None}

    async def course(self, job_id: str, owner: Owner) -> Mapping[str, Json]:
        return await self._stored(lambda: self._store.course(job_id, owner))

    async def resume(self, job_id: str, owner: Owner) -> Job:
        job = await self.job(job_id, owner)
        if job.kind not in LONG or not job.state.ended or job.state is State.DONE:
            raise BadInput(f"job {job_id}: only one that teaches, and was stopped or failed, can go on")
        return await self.submit(NewJob(job.kind, {**job.asked, "continues": job.id}, job.priority), owner)

    async def facts(self) -> ServerFacts:
        folders = cast("list[str]", (await self._asking.call("folders", {})).data["folders"])
        return await self._stored(lambda: server_facts(self._store, self.posts, folders, self._started))

    async def memory(self) -> Memory:
        total, free = memory()
        device_free, device_total = self.posts[0].device_memory if self.posts else (0, 0)
        pids = [pid for post in self.posts if (pid := post.pid) is not None]
        return Memory(
            ram_free=free,
            ram_used=sum(map(resident, pids)),
            ram_total=total,
            device_free=device_free,
            device_used=device_total - device_free,
            device_total=device_total,
        )

    async def ready(self) -> bool:
        return not self._is_stopping and self._asking.is_ready and any(post.is_ready for post in self.posts)

    # Inside.

    async def _listed(self) -> Mapping[str, Json]:
        """All names, as the resolver finds them now."""
        self._known.listed = listed = (await self._asking.call("catalogue", {})).data
        await self._stored(lambda: self._remembered.keep(listed))
        return listed

    def _made(self, job: Job) -> None:
        """A job has ended: what it made is listed from now on."""
        if job.kind in MAKING and job.state is State.DONE:
            self._known.listed = None

    async def _settled(self, job: NewJob, owner: Owner) -> Settled:
        """What the resolver makes of a job. Raises UnknownJob for an upload that is not the owner's, BadInput."""
        names = uploads_in(job.fields)
        blobs = await self._stored(lambda: [self._store.uploaded(name, owner) for name in names]) if names else []
        data: dict[str, Json] = {
            "what": job.kind,
            "fields": dict(job.fields),
            "images": [*names],
            "model": self._known.default,
        }
        found = await self._asking.call("settle", data, *blobs)
        return Settled(
            resolved=found.object("resolved"),
            cost=found.number("cost"),
            uploads=names,
            warnings=tuple(map(str, cast("list[Json]", found.data["warnings"]))),
        )

    async def _change(self, line: Line) -> None:
        """Waits for something to happen. Raises NotReady once nothing more does here."""
        if self._feed.is_closed:
            raise NotReady("the server stops; the job is kept, and goes on when it is back", 10.0)
        await line.change()

    async def _watch(self) -> None:
        """Ends what ran out of time, and the workers that nothing is heard of."""
        while True:
            await asyncio.sleep(WATCHING)
            try:
                for late in await self._stored(self._store.overdue):
                    await self._too_late(late.job_id, late.state)
            except AtelierError as error:
                _log.error("the store refuses", extra={"fields": {"reason": located(error)}})

    async def _too_late(self, job_id: str, state: State) -> None:
        for post in self.posts:
            if state is State.TIMED_OUT:
                await post.stop(job_id, Why.VOID)
            else:
                post.kill(job_id)
        _log.warning("a job ran out of time", extra={"fields": {"job": job_id, "state": str(state)}})
        owner = self._feed.owner(job_id)
        if owner is not None:
            self._feed.state(await self.job(job_id, Owner(owner)))

    async def _prune(self) -> None:
        while True:
            try:
                await self._stored(self._store.prune)
            except AtelierError as error:
                _log.error("the store refuses", extra={"fields": {"reason": located(error)}})
            await asyncio.sleep(PRUNING)

    async def _stored(self, step: Callable[[], T]) -> T:
        """Does something with the store, which waits for the disk, beside the loop."""
        return await asyncio.to_thread(step)


def _seen(job: Job) -> Job:
    """The job as it is told: without where files lie."""
    return job if job.resolved is None else replace(job, resolved=outward(job.resolved))


def _catalogue(listed: Mapping[str, Json], default: str, loaded: frozenset[str]) -> Catalogue:
    def entries(key: str) -> list[dict[str, Json]]:
        return cast("list[dict[str, Json]]", listed[key])

    def named(key: str) -> tuple[NamedEntry, ...]:
        return tuple(
            NamedEntry(str(own["name"]), str(own["file"]), cast("dict[str, Json]", own["more"])) for own in entries(key)
        )

    return Catalogue(
        model=default,
        models=tuple(_model(own, loaded) for own in entries("models")),
        samplers=tuple(
            SamplerEntry(str(own["name"]), _texts(own), str(own["scheduler"])) for own in entries("samplers")
        ),
        schedulers=tuple(
            SchedulerEntry(str(own["name"]), str(own["label"]), _texts(own)) for own in entries("schedulers")
        ),
        upscalers=named("upscalers"),
        latent_upscalers=tuple(map(str, cast("list[Json]", listed["latent_upscalers"]))),
        autoencoders=named("autoencoders"),
        loras=named("loras"),
        hypernetworks=named("hypernetworks"),
        embeddings=named("embeddings"),
        styles=tuple(
            StyleEntry(str(own["name"]), str(own["prompt"]), str(own["negative_prompt"])) for own in entries("styles")
        ),
        controls=named("controls"),
        annotators=tuple(map(_annotator, entries("annotators"))),
    )


def _annotator(own: Mapping[str, Json]) -> AnnotatorEntry:
    file, options = own["file"], cast("list[dict[str, Any]]", own["options"])
    return AnnotatorEntry(
        name=str(own["name"]),
        aliases=_texts(own),
        help=str(own["help"]),
        options=tuple(OptionEntry(**option) for option in options),
        file=None if file is None else str(file),
        there=bool(own["there"]),
        sized=bool(own["sized"]),
    )


def _model(own: Mapping[str, Json], loaded: frozenset[str]) -> ModelEntry:
    name, sha256 = str(own["name"]), own["sha256"]
    return ModelEntry(
        name=name,
        family=str(own["family"]),
        variant=str(own["variant"]),
        file=str(own["file"]),
        sha256=None if sha256 is None else str(sha256),
        loaded=name in loaded,
    )


def _texts(own: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(map(str, cast("list[Json]", own["aliases"])))
