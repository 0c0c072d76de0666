"""The server's side of one worker: kept alive, given one job after the other, watched while it does them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar, cast

from atelier.errors import AtelierError
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, JobError, JobProgress, Owner, State, StoreFailed, located
from atelier.runtime.jobs.lease import Claimed, LeaseLost, MadeImage, SavedState
from atelier.runtime.jobs.limits import LONG
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.workers.backoff import Backoff, rest
from atelier.runtime.workers.feed import Feed
from atelier.runtime.workers.messages import BadMessage, Closed, Message
from atelier.runtime.workers.names import uploads_in
from atelier.runtime.workers.process import Child, Command

T = TypeVar("T")
STOPPING = 10.0
"""Seconds that a worker has to stop a job, which takes it a step; then it is killed."""
SAVING = 120.0
"""The same for kinds in LONG, which end a step, or the validation behind it, and save where they are: gigabytes."""
LOOKING = 1.0
"""Seconds between two looks for a job that nobody told of."""
LATE = 1.0
"""Where the server itself wakes by so many seconds later than it wanted, it slept, and could not hear its worker."""
ENDS = frozenset({"done", "failed", "stopped"})
"""The messages that end a job."""
_log = logging.getLogger("atelier.server")


class Why(Enum):
    """Why a job is stopped."""

    CANCELLED = "cancelled"
    GIVEN_BACK = "given back"
    VOID = "void"


@dataclass(slots=True)
class _Doing:
    """The job that the worker does. why: what it was told to stop for, by then it has to have stopped;
    is_busy: whether the worker has the order and has not said how it ended."""

    claimed: Claimed
    why: Why | None = None
    by: float = float("inf")
    is_busy: bool = False
    spent: dict[str, Json] = field(default_factory=dict[str, Json])

    @property
    def id(self) -> str:
        return self.claimed.job.id


class Post:
    """One worker and its jobs. name: "worker-1"; default: gives the model to read before anybody asks for it; ended:
    hears of each job that has ended, before anybody else does."""

    def __init__(
        self,
        name: str,
        command: Command,
        store: JobStore,
        feed: Feed,
        default: Callable[[], str],
        ended: Callable[[Job], None],
        *,
        lease: float,
    ) -> None:
        self.name, self._command, self._store, self._feed = name, command, store, feed
        self._default, self._ended_job, self._lease = default, ended, lease
        self._child: Child | None = None
        self._doing: _Doing | None = None
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue(64)
        self._wake = asyncio.Event()
        self._leaving = asyncio.Event()
        self.is_ready = False
        self.loaded: frozenset[str] = frozenset()
        self.device = ""
        self.device_memory = (0, 0)

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    @property
    def job(self) -> str | None:
        """The id of the job that is being done."""
        return None if self._doing is None else self._doing.id

    def wake(self) -> None:
        """There may be a job."""
        self._wake.set()

    async def stop(self, job_id: str, why: Why) -> None:
        """Stops the job, if it is the one being done."""
        doing, child = self._doing, self._child
        if doing is None or child is None or doing.id != job_id or doing.why is not None:
            return
        saves = doing.claimed.job.kind in LONG and why is not Why.VOID
        doing.why, doing.by = why, time.monotonic() + (SAVING if saves else STOPPING)
        try:
            await child.send(Message("stop", {"job": job_id}))
        except Closed:
            return

    def kill(self, job_id: str) -> None:
        """Ends the worker where it does that job, whose lease is void."""
        if self._child is not None and self._doing is not None and self._doing.id == job_id:
            self._doing.why = Why.VOID
            self._child.kill()

    async def order(self, message: Message) -> None:
        """Tells the worker something beside its jobs; nothing where it is not there."""
        if self._child is not None and self.is_ready:
            try:
                await self._child.send(message)
            except Closed:
                return

    async def leave(self, grace: float) -> None:
        """Takes no more jobs; gives the one that runs back where it does not end within the grace. Then all ends."""
        self._leaving.set()
        self.wake()
        end = time.monotonic() + grace
        while self._doing is not None and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if self._doing is not None:
            await self.stop(self._doing.id, Why.GIVEN_BACK)
        while self._doing is not None:
            await asyncio.sleep(0.02)
        if self._child is not None:
            await self._child.close()

    async def run(self) -> None:
        """Keeps the worker alive until `leave`; to be run as a task."""
        backoff = Backoff()
        while not self._leaving.is_set():
            backoff.started()
            try:
                self._child = await Child.start(self.name, self._command)
            except OSError as error:
                _log.error("a worker cannot be started", extra={"fields": {"worker": self.name, "reason": str(error)}})
            else:
                await self._lived(self._child, backoff)
            await rest(backoff.died(), self._leaving)

    async def _lived(self, child: Child, backoff: Backoff) -> None:
        """The life of one process."""
        self._messages = asyncio.Queue(64)
        reading = asyncio.create_task(self._read(child))
        try:
            await self._work(child, backoff)
        except (Closed, BadMessage):
            pass
        except Exception:  # noqa: BLE001 - the next worker may do better
            _log.exception("a fault in the server itself", extra={"fields": {"worker": self.name}})
        finally:
            self.is_ready, self.loaded, self._child = False, frozenset(), None
            child.kill()
            code = await child.ended()
            reading.cancel()
            if not self._leaving.is_set():
                _log.error("a worker died", extra={"fields": {"worker": self.name, "pid": child.pid, "exit": code}})

    async def _read(self, child: Child) -> None:
        try:
            while True:
                await self._messages.put(await child.receive())
        except (Closed, BadMessage) as error:
            if isinstance(error, BadMessage):
                child.kill()
            await self._messages.put(None)

    async def _work(self, child: Child, backoff: Backoff) -> None:
        """Raises Closed when the worker is gone."""
        while not (self._leaving.is_set() and self._doing is None):
            claimed = None
            self._wake.clear()
            if self.is_ready and not self._leaving.is_set():
                claimed = await self._claimed()
            if claimed is None:
                await self._idle()
                continue
            self._doing = _Doing(claimed)
            try:
                await self._do(child, self._doing)
                backoff.worked()
            finally:
                self._doing = None

    async def _claimed(self) -> Claimed | None:
        """The next job, if there is one and the store gives it."""
        try:
            return await self._stored(lambda: self._store.claim(self.name))
        except StoreFailed as error:
            _log.error("the store refuses", extra={"fields": {"worker": self.name, "reason": located(error)}})
            return None

    async def _idle(self) -> None:
        """Hears the worker until there may be a job, or for a while. Raises Closed."""
        end = time.monotonic() + LOOKING
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            while not self._wake.is_set() and (left := end - time.monotonic()) > 0:
                message = asyncio.ensure_future(self._messages.get())
                done, _ = await asyncio.wait({message, woken}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if message in done:
                    await self._beside(message.result())
                else:
                    message.cancel()
        finally:
            woken.cancel()

    async def _beside(self, message: Message | None) -> None:
        """What a worker says beside its jobs. Raises Closed."""
        if message is None:
            raise Closed("the worker is gone")
        match message.kind:
            case "ready":
                self.is_ready, self.device = True, message.text("device")
                _log.info("a worker is ready", extra={"fields": {"worker": self.name, "device": self.device}})
                self._wake.set()
                await self.order(Message("load", {"model": self._default()}))
            case "alive":
                self.loaded = frozenset(map(str, cast("list[Json]", message.data.get("loaded", []))))
                self.device_memory = int(message.number("device_free")), int(message.number("device_total"))
            case "note":
                _log.warning("a worker says", extra={"fields": {"worker": self.name, "text": message.text("message")}})
            case _:
                pass  # of a job that was ended for it

    async def _do(self, child: Child, doing: _Doing) -> None:
        """One job, from the order to its end. Raises Closed where the worker died of it, once the store knows."""
        claimed = doing.claimed
        self._feed.line(claimed.job)
        self._feed.state(claimed.job)
        _log.info("a job begins", extra={"fields": self._about(doing)})
        try:
            names = uploads_in(claimed.job.asked)
            blobs = await self._stored(lambda: _blobs(self._store, claimed.job, names)) if names else []
            await child.send(_order(claimed, names, blobs))
            doing.is_busy = True
            if self._store.cancelling(claimed.lease):
                await self.stop(doing.id, Why.CANCELLED)
            while not await self._heard(await self._next(child, doing), doing):
                pass
        except (Closed, BadMessage) as error:
            await self._died(doing)
            raise Closed(str(error)) from error
        except AtelierError as error:
            await self._dropped(child, doing, error)

    async def _next(self, child: Child, doing: _Doing) -> Message:
        """The next message. Raises Closed where the worker died, does not stop, or shows no sign of life."""
        while True:
            end = time.monotonic() + min(self._lease, max(0.0, doing.by - time.monotonic()))
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    message = await self._messages.get()
            except TimeoutError:
                if time.monotonic() > end + LATE:
                    continue
                child.kill()
                raise Closed(f"{self.name} does not answer") from None
            if message is None:
                raise Closed(f"{self.name} is gone")
            return message

    async def _heard(self, message: Message, doing: _Doing) -> bool:
        """Whether the job has ended with this message."""
        if message.data.get("job") != doing.id:
            await self._beside(message)
            self._beat(doing)
            return False
        if message.kind in ENDS:
            await self._ended(message, doing)
            return True
        if doing.why in {None, Why.GIVEN_BACK}:
            try:
                await self._kept(message, doing)
            except LeaseLost:
                await self.stop(doing.id, Why.VOID)
        return False

    def _beat(self, doing: _Doing) -> None:
        if doing.why is not Why.VOID:
            try:
                self._store.heartbeat(doing.claimed.lease)
            except LeaseLost:
                doing.why, doing.by = Why.VOID, time.monotonic()

    async def _kept(self, message: Message, doing: _Doing) -> None:
        """What happens within a job. Raises LeaseLost, StoreFailed."""
        lease, job_id = doing.claimed.lease, doing.id
        match message.kind:
            case "progress":
                progress = _progress(message)
                self._store.progress(lease, progress)
                self._feed.progress(job_id, progress)
            case "preview":
                self._feed.preview(job_id, int(message.number("index")), message.blobs[0])
            case "image":
                made = _image(message)
                self._feed.image(job_id, await self._stored(lambda: self._store.add_image(lease, made)))
            case "saved":
                state = SavedState(int(message.number("image")), int(message.number("step")), message.blobs[0])
                await self._stored(lambda: self._store.save_state(lease, state))
            case "warning":
                text = message.text("message")
                await self._stored(lambda: self._store.warn(lease, text))
                self._feed.warning(job_id, text)
            case "learned":
                told = {key: value for key, value in message.data.items() if key != "job"}
                self._feed.learned(job_id, told)
            case "spent":
                doing.spent = {key: value for key, value in message.data.items() if key != "job"}
            case _:
                raise BadMessage(f"a worker says {message.kind!r} of a job")

    async def _ended(self, message: Message, doing: _Doing) -> None:
        """Commits how the job ended."""
        lease, doing.is_busy = doing.claimed.lease, False
        try:
            match message.kind, doing.why:
                case _, Why.VOID:
                    return
                case "done", _:
                    result = message.object("result")
                    doing.spent["worked"] = message.number("worked")
                    job = await self._stored(lambda: self._store.finish(lease, result or None))
                case "failed", _:
                    error = _error(message)
                    job = await self._stored(lambda: self._store.fail(lease, error))
                case _, Why.GIVEN_BACK:
                    job = await self._stored(lambda: self._store.give_back(lease))
                case _:
                    job = await self._stored(lambda: self._store.stopped(lease))
        except LeaseLost:
            return
        self._told(job, doing)

    async def _died(self, doing: _Doing) -> None:
        """Commits that the worker died of the job, or would not stop it."""
        lease = doing.claimed.lease
        try:
            if doing.why is Why.CANCELLED:
                job = await self._stored(lambda: self._store.stopped(lease))
            elif doing.why is Why.GIVEN_BACK:
                job = await self._stored(lambda: self._store.give_back(lease))
            else:
                reason = f"the worker died while it did this job, in attempt {lease.attempt}"
                job = await self._stored(lambda: self._store.lost(lease, reason))
        except (LeaseLost, StoreFailed):
            return
        self._told(job, doing)

    async def _dropped(self, child: Child, doing: _Doing, error: AtelierError) -> None:
        """The store refuses to give or to take: the job fails, and the worker is freed of it."""
        _log.error("the store refuses", extra={"fields": {**self._about(doing), "reason": located(error)}})
        failed = JobError(type(error).__name__, str(error), error.exit_code)
        with suppress(LeaseLost, StoreFailed):  # its lease runs out then, and the job is begun again
            self._told(await self._stored(lambda: self._store.fail(doing.claimed.lease, failed)), doing)
        if doing.is_busy:
            await self.stop(doing.id, Why.VOID)
            while (await self._next(child, doing)).kind not in ENDS:
                pass

    def _told(self, job: Job, doing: _Doing) -> None:
        if job.state.ended:
            self._ended_job(job)
        self._feed.state(job)
        _log.info("a job rests" if not job.state.ended else "a job ended", extra={"fields": self._about(doing, job)})

    def _about(self, doing: _Doing, job: Job | None = None) -> dict[str, Json]:
        said: dict[str, Json] = {"job": doing.id, "worker": self.name, "attempt": doing.claimed.lease.attempt}
        if job is not None:
            said |= {"state": str(job.state), **doing.spent}
            if job.error is not None:
                said["error"] = job.error.message
            if job.state is State.DONE and job.started is not None and job.ended is not None:
                said["seconds"] = round(job.ended - job.started, 3)
        return said

    async def _stored(self, step: Callable[[], T]) -> T:
        """Does something with the store, which waits for the disk, beside the loop."""
        return await asyncio.to_thread(step)


def _blobs(store: JobStore, job: Job, names: Sequence[str]) -> list[bytes]:
    """The images that a job starts from."""
    return [store.uploaded(name, Owner(job.owner)) for name in names]


def _order(claimed: Claimed, names: Sequence[str], blobs: Sequence[bytes]) -> Message:
    """The order to do a job, with the images that it starts from, and the middle of another that was saved."""
    job, saved = claimed.job, claimed.saved
    data: dict[str, Json] = {
        "job": job.id,
        "what": job.kind,
        "resolved": dict(job.resolved or {}),
        "images": [*names],
        "there": [image.index for image in job.images],
    }
    return Message("run", data, (*blobs, *([] if saved is None else [saved.data])))


def _progress(message: Message) -> JobProgress:
    done, total, image, images = (int(message.number(key)) for key in ("done", "total", "image", "images"))
    return JobProgress(done, total, image, images, float(message.number("share")))


def _image(message: Message) -> MadeImage:
    seed = message.data.get("seed")
    return MadeImage(
        index=int(message.number("index")),
        seed=None if seed is None else int(message.number("seed")),
        width=int(message.number("width")),
        height=int(message.number("height")),
        format=message.text("format"),
        infotext=message.text("infotext"),
        data=message.blobs[0],
        thumbnail=message.blobs[1] if len(message.blobs) > 1 else None,
    )


def _error(message: Message) -> JobError:
    error = message.object("error")
    return JobError(str(error.get("kind")), str(error.get("message")), int(cast("int", error.get("exit_code", 1))))
