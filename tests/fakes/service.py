"""A service without models, database or processes: it makes small images at once, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atelier.api.service import (
    Album,
    Catalogue,
    FolderFacts,
    ImageKind,
    ImageText,
    Memory,
    ModelEntry,
    NamedEntry,
    SamplerEntry,
    SchedulerEntry,
    ServerFacts,
    StyleEntry,
    WorkerFacts,
)
from atelier.errors import BadInput, UnknownName, about
from atelier.request.events import Json
from atelier.request.table import request_of
from atelier.runtime.jobs.job import (
    Job,
    JobError,
    JobEvent,
    JobImage,
    JobProgress,
    NewJob,
    NotReady,
    Owner,
    QueueFull,
    State,
    TooLarge,
    UnknownJob,
)
from atelier.runtime.jobs.lease import Counts
from atelier.runtime.workers.names import SPOKEN, uploads_in
from fakes.album import EmptyAlbum
from fakes.easel import FakeEasel

CATALOGUE = Catalogue(
    model="embedded",
    models=(
        ModelEntry("embedded", "sd1", "tiny", "embedded.safetensors", "e" * 64, loaded=True),
        ModelEntry("animagine-xl", "sdxl", "base", "animagine-xl.safetensors", "a" * 64, loaded=False),
    ),
    samplers=(
        SamplerEntry("Euler a", ("k_euler_a",), "Automatic"),
        SamplerEntry("DPM++ 2M", ("k_dpmpp_2m",), "Karras"),
    ),
    schedulers=(SchedulerEntry("automatic", "Automatic", ()), SchedulerEntry("karras", "Karras", ())),
    upscalers=(
        NamedEntry("None", "", {}),
        NamedEntry("Lanczos", "", {}),
        NamedEntry("R-ESRGAN 4x+", "resrgan.pth", {}),
    ),
    latent_upscalers=("Latent", "Latent (nearest)"),
    autoencoders=(NamedEntry("kl-f8", "kl-f8.safetensors", {}),),
    loras=(NamedEntry("detail", "detail.safetensors", {}),),
    hypernetworks=(NamedEntry("ghibli", "ghibli.pt", {}),),
    embeddings=(NamedEntry("easynegative", "easynegative.pt", {"vectors": 8, "width": 768}),),
    styles=(StyleEntry("anime", "anime, {prompt}", "photo"),),
)
FILE = "0123456789abcdef01234567"
WEIGHTS: Mapping[str, Json] = {
    "name": "detail",
    "file": "Lora/detail.safetensors",
    "kind": "lora",
    "family": "sd1",
    "variant": "lora",
    "title": "LoRA of Stable Diffusion 1.x",
    "dtype": "fp16",
    "bytes": 1000,
    "parameters": 500,
    "size": None,
    "supported": True,
    "problem": None,
    "changed": 1e9,
}
FORECAST: Mapping[str, Json] = {
    "name": "zwx",
    "steps": 150,
    "batch": 4,
    "rate": 2e-3,
    "size": 128,
    "class_images": 24,
    "sample_every": 75,
    "samples": 2,
    "caption": "a zwx",
    "prompt": "<lora:zwx:1> zwx",
    "model": "embedded",
    "files": ["zwx.safetensors"],
    "taken": [],
    "warnings": [],
    "cost": 100.0,
    "seconds": 100.0,
    "measured": False,
}
SIDE = 16
"""Pixels: of every image, whatever was asked for."""


def png(
    infotext: str = "", colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (SIDE, SIDE)
) -> bytes:
    """A real PNG of one colour."""
    file, info = io.BytesIO(), PngInfo()
    if infotext:
        info.add_text("parameters", infotext)
    Image.new("RGB", size, colour).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@dataclass(slots=True)
class Kept:
    """A job with what happened to it."""

    owner: Owner
    job: Job
    events: list[JobEvent] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    fields: Mapping[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class FakeService:
    """delay: seconds that each step takes. full, is_ready: what it says of itself. failing: the error that jobs end in.

    broken: what every call raises. hold: jobs stay in the queue. stays: the step, of 4, at which jobs stay until
    somebody ends them, 0 = none. calls: the names of what was called, in order.
    """

    delay: float = 0.0
    full: bool = False
    is_ready: bool = True
    failing: JobError | None = None
    broken: Exception | None = None
    hold: bool = False
    stays: int = 0
    kept: dict[str, Kept] = field(default_factory=dict)
    files: dict[str, tuple[str, JobImage, bytes]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    submitted: list[NewJob] = field(default_factory=list)
    model: str = CATALOGUE.model
    loaded: set[str] = field(default_factory=lambda: {CATALOGUE.model})
    upload_limit: int = 50 << 20
    kept_album: Album = field(default_factory=EmptyAlbum)
    kept_easel: FakeEasel = field(default_factory=FakeEasel)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _keys: dict[tuple[str, str], str] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.broken is not None:
            raise self.broken

    @property
    def album(self) -> Album:
        self._called("album")
        return self.kept_album

    @property
    def easel(self) -> FakeEasel:
        self._called("easel")
        return self.kept_easel

    async def upload(self, data: bytes, owner: Owner) -> str:
        self._called("upload")
        if len(data) > self.upload_limit:
            raise TooLarge(f"the image has {len(data)} bytes: at most {self.upload_limit} are taken")
        name = "upload:" + hashlib.sha256(data).hexdigest()
        self.uploads[owner.key + name] = (owner.key, data)
        return name

    async def uploaded(self, name: str, owner: Owner) -> bytes:
        self._called("uploaded")
        found = self.uploads.get(owner.key + name)
        if found is None:
            raise UnknownJob(name)
        return found[1]

    async def submit(self, job: NewJob, owner: Owner) -> Job:
        self._called("submit")
        if not self.is_ready:
            raise NotReady("the server starts: try again in 2 seconds")
        if self.full:
            raise QueueFull("256 jobs wait, and no more are taken: try again in 7 seconds", 7)
        same = self._keys.get((owner.key, job.idempotency_key or ""))
        if same is not None:
            if self.kept[same].job.asked != job.fields:
                with about("Idempotency-Key"):
                    raise BadInput("Idempotency-Key: was sent with other fields before: take a new one for another job")
            return self.kept[same].job
        self._check(job, owner)
        return self._accept(job, owner)

    def _check(self, job: NewJob, owner: Owner) -> None:
        if job.kind == "generate":
            request_of(job.fields)
            model = job.fields.get("model")
            known = [m.name for m in CATALOGUE.models]
            if model is not None and model not in known:
                raise UnknownName("model", str(model), known)
        for name in uploads_in({key: job.fields.get(key) for key in SPOKEN}):
            if owner.key + name not in self.uploads:
                raise UnknownJob(f"no upload {name!r}: it is not there, or not yours")
        for name in ("image", "mask"):
            value = job.fields.get(name)
            known = [owner.key + one in self.uploads for one in str(value).split(" as large as ")]
            if value not in {None, "alpha"} and not all(known):
                raise UnknownJob(f"no upload {value!r}: it is not there, or not yours")

    def _accept(self, job: NewJob, owner: Owner) -> Job:
        number = next(self._numbers)
        made = Job(
            id=f"job_{number:026d}",
            kind=job.kind,
            state=State.QUEUED,
            owner=owner.key,
            priority=job.priority,
            attempt=0,
            created=time.time(),
            started=None,
            ended=None,
            position=0,
            expected=1.0,
            progress=JobProgress(),
            images=(),
            warnings=(),
            error=None,
            asked=dict(job.fields),
            resolved=settled(job.fields),
            result=None,
        )
        self.kept[made.id] = Kept(owner, made)
        self.submitted.append(job)
        if job.idempotency_key is not None:
            self._keys[owner.key, job.idempotency_key] = made.id
        if not self.hold:
            task = asyncio.get_running_loop().create_task(self._run(made.id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return made

    async def _run(self, job_id: str) -> None:
        kept = self.kept[job_id]
        resolved = kept.job.resolved or {}
        count = int(resolved["images"]) if kept.job.kind != "interrogate" else 0  # type: ignore[arg-type]
        steps = 4
        self._change(kept, state=State.RUNNING, attempt=1, started=time.time(), position=None)
        for step in range(1, steps + 1):
            await asyncio.sleep(self.delay)
            if kept.job.state.ended:
                return
            self._change(kept, progress=JobProgress(step, steps, 0, count, step / steps), event="progress")
            self._event(kept, "preview", {"index": 0, "image": JPEG})
            if step == self.stays:
                await kept.done.wait()
                return
        if self.failing is not None:
            self._end(kept, State.FAILED, error=self.failing)
            return
        for index in range(count):
            self._image(kept, index, int(resolved["seed"]) + index)  # type: ignore[arg-type]
        result: dict[str, Json] | None = {"caption": "a red square"} if kept.job.kind == "interrogate" else None
        self._end(kept, State.DONE, result=result)

    def _image(self, kept: Kept, index: int, seed: int) -> None:
        text = infotext(kept.job.resolved or {}, seed)
        data = png(text, (seed % 256, index * 40 % 256, len(kept.job.id)))
        name = f"img_{hashlib.sha256(f'{kept.job.id}/{index}'.encode()).hexdigest()[:26]}"
        image = JobImage(name, index, seed, SIDE, SIDE, "png", hashlib.sha256(data).hexdigest(), text)
        self.files[name] = (kept.owner.key, image, data)
        kept.job = replace(kept.job, images=(*kept.job.images, image))
        self._event(
            kept, "image", {"id": name, "index": index, "seed": seed, "width": SIDE, "height": SIDE, "format": "png"}
        )

    def _change(self, kept: Kept, *, event: str = "state", **changes: object) -> None:
        kept.job = replace(kept.job, **changes)  # type: ignore[arg-type]
        data: dict[str, Json] = {"id": kept.job.id, "state": str(kept.job.state)}
        if event == "progress":
            p = kept.job.progress
            data = {"done": p.done, "total": p.total, "image": p.image, "images": p.images, "share": p.share}
        self._event(kept, event, data)

    def _event(self, kept: Kept, name: str, data: Mapping[str, Json]) -> None:
        kept.events.append(JobEvent(len(kept.events) + 1, name, data))

    def _end(self, kept: Kept, state: State, **changes: object) -> None:
        self._change(kept, state=state, ended=time.time(), position=None, expected=None, **changes)
        kept.done.set()

    def _own(self, job_id: str, owner: Owner) -> Kept:
        kept = self.kept.get(job_id)
        if kept is None or kept.owner.key != owner.key:
            raise UnknownJob(f"no job {job_id!r}: it is not there, or not yours")
        return kept

    async def job(self, job_id: str, owner: Owner) -> Job:
        self._called("job")
        return self._own(job_id, owner).job

    async def jobs(
        self,
        owner: Owner,
        *,
        limit: int = 100,
        before: str | None = None,
        states: Collection[State] = tuple(State),
        kind: str | None = None,
    ) -> Sequence[Job]:
        self._called("jobs")
        own = [kept.job for kept in reversed(self.kept.values()) if kept.owner.key == owner.key]
        own = [job for job in own if job.state in states and kind in {None, job.kind}]
        if before is not None:
            self._own(before, owner)
            own = [job for job in own if job.id < before]
        return own[:limit]

    async def alive(self, owner: Owner) -> Sequence[Job]:
        self._called("alive")
        own = [kept.job for kept in self.kept.values() if kept.owner.key == owner.key and not kept.job.state.ended]
        return sorted(own, key=lambda job: job.state is State.QUEUED)

    async def to_front(self, job_id: str, owner: Owner) -> Job:
        self._called("to_front")
        job = self._own(job_id, owner).job
        if job.state is not State.QUEUED:
            raise BadInput(f"job {job_id} does not wait any more: only what waits can be moved to the front")
        return job

    async def stream(self, owner: Owner, after: int | None = None) -> AsyncIterator[JobEvent]:
        self._called("stream")
        yield JobEvent((after or 0) + 1, "reset", {"owner": owner.key})

    async def cancel(self, job_id: str, owner: Owner) -> Job:
        self._called("cancel")
        kept = self._own(job_id, owner)
        if not kept.job.state.ended:
            self._end(kept, State.CANCELLED)
        return kept.job

    async def delete(self, job_id: str, owner: Owner) -> None:
        self._called("delete")
        kept = self._own(job_id, owner)
        if not kept.job.state.ended:
            raise BadInput(f"job {job_id} has not ended: cancel it first")
        del self.kept[job_id]
        for image in kept.job.images:
            del self.files[image.id]
        self._keys = {key: job for key, job in self._keys.items() if job != job_id}

    async def ended(self, job_id: str, owner: Owner) -> Job:
        self._called("ended")
        kept = self._own(job_id, owner)
        await kept.done.wait()
        return kept.job

    async def events(self, job_id: str, owner: Owner, after: int = 0) -> AsyncIterator[JobEvent]:
        self._called("events")
        kept = self._own(job_id, owner)
        sent = after
        while True:
            for event in kept.events[sent:]:
                sent = event.number
                yield event
            if kept.job.state.ended and sent >= len(kept.events):
                return
            await asyncio.sleep(0.002)

    async def image(self, image_id: str, owner: Owner) -> tuple[JobImage, bytes]:
        self._called("image")
        found = self.files.get(image_id)
        if found is None or found[0] != owner.key:
            raise UnknownJob(f"no image {image_id!r}: it is not there, or not yours")
        return found[1], found[2]

    async def about(self, image_id: str, owner: Owner) -> JobImage:
        return (await self.image(image_id, owner))[0]

    async def thumbnail(self, image_id: str, owner: Owner) -> bytes:
        await self.image(image_id, owner)
        return jpeg()

    async def rendition(self, image_id: str, owner: Owner, *, kind: ImageKind, quality: int = 90) -> bytes:
        _, data = await self.image(image_id, owner)
        self._called("rendition")
        image, file = Image.open(io.BytesIO(data)), io.BytesIO()
        image.save(file, kind, quality=quality)
        return file.getvalue()

    async def running(self, owner: Owner) -> Job | None:
        self._called("running")
        own = [kept.job for kept in self.kept.values() if kept.owner.key == owner.key and not kept.job.state.ended]
        return next((job for job in own if job.state is State.RUNNING), own[0] if own else None)

    async def preview(self, job_id: str, owner: Owner) -> bytes | None:
        self._called("preview")
        return jpeg() if self._own(job_id, owner).job.progress.done else None

    async def catalogue(self) -> Catalogue:
        self._called("catalogue")
        models = tuple(replace(m, loaded=m.name in self.loaded) for m in CATALOGUE.models)
        return replace(CATALOGUE, model=self.model, models=models)

    async def refresh(self) -> None:
        self._called("refresh")

    async def load(self, model: str) -> None:
        self._called("load")
        known = [m.name for m in CATALOGUE.models]
        if model not in known:
            raise UnknownName("model", model, known)
        self.model = model
        self.loaded = {model}

    async def unload(self) -> None:
        self._called("unload")
        self.loaded = set()

    async def explain(self, fields: Mapping[str, Json]) -> Mapping[str, Json]:
        self._called("explain")
        said: dict[str, Json] = {"text": fields["prompt"], "attention": [], "schedule": [], "parts": []}
        rest: dict[str, Json] = {"networks": [], "warnings": []}
        return {**said, **rest, "count": 3, "chunks": 1, "room": 75}

    async def wildcards(self) -> Sequence[str]:
        self._called("wildcards")
        return ("animal", "colour")

    async def weights(self) -> Sequence[Mapping[str, Json]]:
        self._called("weights")
        return [{**WEIGHTS, "id": FILE}]

    async def weight(self, name: str) -> Mapping[str, Json]:
        self._called("weight")
        if name != FILE:
            raise UnknownJob(f"no file {name!r}")
        return {**WEIGHTS, "id": FILE, "licence": "CC0", "metadata": {"ss_steps": "20"}}

    async def forecast(self, fields: Mapping[str, Json]) -> Mapping[str, Json]:
        self._called("forecast")
        if fields.get("method") == "lorra":
            raise UnknownName("method", "lorra", ["lora"])
        return {**FORECAST, "steps": int(str(fields["count"])) * 30}

    async def course(self, job_id: str, owner: Owner) -> Mapping[str, Json]:
        self._called("course")
        self._own(job_id, owner)
        return {"points": [[1, 0.5], [2, 0.25]], "checks": [[2, 0.125]]}

    async def resume(self, job_id: str, owner: Owner) -> Job:
        self._called("resume")
        kept = self._own(job_id, owner)
        if kept.job.state not in {State.CANCELLED, State.FAILED}:
            raise BadInput(f"job {job_id}: only one that teaches, and was stopped or failed, can go on")
        return self._accept(NewJob(kept.job.kind, {**kept.job.asked, "continues": job_id}), owner)

    async def facts(self) -> ServerFacts:
        self._called("facts")
        folder = FolderFacts("/srv/models", 5 << 30, 9 << 30, there=True, writable=True)
        worker = WorkerFacts("worker-1", "cpu", True, False, ("embedded",), 0, 0)
        kept = {"outputs": 10, "uploads": 20, "database": 30, "states": 0, "runs": 40}
        return ServerFacts(1e9, (worker,), {"queue": 256.0}, kept, (folder,), folder, "/srv/data/jobs.sqlite3")

    async def read_image(self, data: bytes) -> ImageText:
        self._called("read_image")
        try:
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
        except OSError:
            raise BadInput("the image cannot be read: send a PNG, JPEG or WebP") from None
        items = {str(k): str(v) for k, v in image.info.items() if isinstance(v, str)}
        text = items.pop("parameters", "")
        fields: dict[str, Json] = {"prompt": text.split("\n")[0], "steps": 20} if text else {}
        return ImageText(*image.size, (image.format or "").lower(), text, items, fields)

    async def memory(self) -> Memory:
        self._called("memory")
        return Memory(4 << 30, 2 << 30, 6 << 30, 0, 0, 0)

    async def counts(self) -> Counts:
        self._called("counts")
        states = [kept.job.state for kept in self.kept.values()]
        return Counts({state: states.count(state) for state in State}, sum(len(f[2]) for f in self.files.values()), 0)

    async def ready(self) -> bool:
        if self.broken is not None:
            raise self.broken
        return self.is_ready


def settled(fields: Mapping[str, Json]) -> dict[str, Json]:
    """What of a `Resolved` the fake has: sizes, seed, and how many images."""
    seed = fields.get("seed")
    batch = int(fields.get("batch_size", 1)) * int(fields.get("batch_count", 1))  # type: ignore[arg-type]
    return {
        **fields,
        "seed": 42 if seed is None or seed == -1 else seed,
        "width": fields.get("width") or SIDE,
        "height": fields.get("height") or SIDE,
        "steps": fields.get("steps") or 20,
        "images": batch,
    }


def infotext(resolved: Mapping[str, Json], seed: int) -> str:
    """The text that A1111 would write."""
    size = f"{resolved['width']}x{resolved['height']}"
    return (
        f"{resolved.get('prompt', '')}\nSteps: {resolved['steps']}, Sampler: {resolved.get('sampler') or 'Euler a'}, "
        f"CFG scale: {resolved.get('cfg_scale') or 7}, Seed: {seed}, Size: {size}"
    )


def jpeg() -> bytes:
    """A small preview."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(file, "JPEG")
    return file.getvalue()


def _as_text(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


JPEG = _as_text(jpeg())
