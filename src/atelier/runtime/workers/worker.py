"""The process that generates: models in memory, one job at a time, heard between two steps."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

from atelier.errors import AtelierError
from atelier.request.events import Json, Preview, Warned
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.jobs.lease import MadeImage, SavedState
from atelier.runtime.workers.child import error_data, leave, listen
from atelier.runtime.workers.kind import Bench, Learned, Result, Spent, Stopped, Task, Told, kinds
from atelier.runtime.workers.messages import Channel, Closed, Message
from atelier.runtime.workers.pictures import jpeg
from atelier.runtime.workers.places import places_of, without_places
from atelier.runtime.workers.warming import warm

if TYPE_CHECKING:
    import torch

    from atelier.runtime.engine import Engine
    from atelier.runtime.workers.handed import HandedImages
    from atelier.runtime.workers.kind import Most

BEAT = 0.5
"""Seconds between two signs of life."""


class Worker:
    """Does what the server says, over `way`."""

    def __init__(self, way: Channel, engine: Engine, images: HandedImages, most: Most, runs: Path) -> None:
        self._way, self._engine, self._images = way, engine, images
        self._orders: queue.Queue[Message] = queue.Queue()
        self._stop: set[str] = set()
        self._job = ""
        self._bench, self._runs = Bench(engine, images, most, self._is_stopping), runs

    def run(self) -> None:
        """Until the server is gone."""
        kinds()
        listen(self._way, self._hear)
        threading.Thread(target=self._beat, name="signs of life", daemon=True).start()
        self._say("ready", {"device": str(self._engine.device), "model": self._engine.library.find().name})
        while True:
            self._do(self._orders.get())

    def _hear(self, message: Message) -> None:
        """In the thread that reads."""
        if message.kind == "stop":
            self._stop.add(message.text("job"))
        else:
            self._orders.put(message)

    def _beat(self) -> None:
        while True:
            try:
                held = {ref.model.name for ref in self._engine.resources.cache.held()}
                self._say("alive", {"loaded": [*sorted(held)], **_device_memory(self._engine.resources.device)})
            except Closed:
                leave()
            time.sleep(BEAT)

    def _do(self, order: Message) -> None:
        match order.kind:
            case "run":
                self._perform(order)
            case "load":
                self._warmed(order)
            case "unload":
                self._engine.resources.cache.clear()
            case _:
                raise AssertionError(order.kind)

    def _warmed(self, order: Message) -> None:
        try:
            warm(self._engine, order.text("model"))
        except AtelierError as error:
            self._say("note", {"message": str(error)})

    def _perform(self, order: Message) -> None:
        """Every order to run ends in exactly one of done, failed and stopped."""
        self._job = order.text("job")
        names = cast("list[str]", order.data["images"])
        self._images.hold(dict(zip(names, order.blobs, strict=False)))
        start = time.monotonic()
        try:
            result = self._made(order, order.blobs[len(names) :])
            self._tell("done", {"result": dict(result.data), "worked": round(time.monotonic() - start, 4)})
        except Closed:
            leave()
        except Stopped:
            self._tell("stopped", {})
        except Exception as error:  # noqa: BLE001 - whatever a job does wrong, the worker goes on with the next one
            self._tell("failed", {"error": self._error(error)})
        finally:
            self._images.hold({})
            self._stop.discard(self._job)
            self._job = ""

    def _made(self, order: Message, saved: tuple[bytes, ...]) -> Result:
        """What the job tells in the end. Raises Stopped where it is to stop, with the first that is told by a kind that
        could know of it: the middle of an image is sent before, and what saves where it is does so."""
        there = frozenset(cast("list[int]", order.data["there"]))
        task = Task(order.object("resolved"), there, saved[0] if saved else None, self._runs / self._job)
        result, kind, is_known = Result(), kinds()[order.text("what")], False
        with closing(cast("Generator[Told]", kind.perform(task, self._bench))) as steps:
            for told in steps:
                if isinstance(told, Result):
                    result = told
                else:
                    self._relay(told)
                if is_known and not kind.stops_itself and not isinstance(told, SavedState):
                    raise Stopped("told to stop")
                is_known = self._is_stopping()
        return result

    def _error(self, error: Exception) -> dict[str, Json]:
        said = error_data(error)
        return {**said, "message": self._without_places(str(said["message"]))}

    def _without_places(self, text: str) -> str:
        """A message without the folders of the machine, also those in which the job lies."""
        return without_places(text, (self._runs / self._job, self._runs.parent, *places_of(self._engine)))

    def _is_stopping(self) -> bool:
        return self._job in self._stop

    def _relay(self, told: Told) -> None:
        match told:
            case JobProgress(done, total, image, images, share):
                said: dict[str, Json] = {"done": done, "total": total, "image": image, "images": images, "share": share}
                self._tell("progress", said)
            case Preview(index, image):
                self._tell("preview", {"index": index}, jpeg(image))
            case MadeImage():
                self._tell("image", _image_data(told), told.data, *([told.thumbnail] if told.thumbnail else []))
            case SavedState(image, step, data):
                self._tell("saved", {"image": image, "step": step}, data)
            case Warned(message):
                self._tell("warning", {"message": self._without_places(message)})
            case Spent(calls, again):
                self._tell("spent", {"calls": calls, "again": again})
            case Learned(points, checks, left):
                self._tell("learned", {"points": _pairs(points), "checks": _pairs(checks), "left": left})
            case Result():
                raise AssertionError

    def _tell(self, kind: str, data: dict[str, Json], *blobs: bytes) -> None:
        self._say(kind, {"job": self._job, **data}, *blobs)

    def _say(self, kind: str, data: dict[str, Json], *blobs: bytes) -> None:
        self._way.send(Message(kind, data, blobs))


def _pairs(points: tuple[tuple[int, float], ...]) -> list[Json]:
    return [[step, number] for step, number in points]


def _image_data(image: MadeImage) -> dict[str, Json]:
    return {
        "index": image.index,
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "infotext": image.infotext,
    }


def _device_memory(device: torch.device) -> dict[str, Json]:
    """Bytes of a graphics card; 0 where there is none."""
    if device.type != "cuda":
        return {"device_free": 0, "device_total": 0}
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return {"device_free": free, "device_total": total}
