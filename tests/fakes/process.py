"""Processes of a server that need no torch, and do what their jobs say: `python -m fakes.process worker --channel N`.

A job for the worker is a list of steps, {"do": [...]}: "progress", "image", "saved", "warning", "done", "fail", "die",
"nonsense", "silent" (no sign of life any more), "deaf" (it does not stop), "wait" (until it is to stop), "late" (a
while longer than that). The resolver answers "settle" with its fields, refuses where they say so, and dies or keeps
silent where they say that; what has "until" it answers once a file of that name is there.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from atelier.runtime.workers.messages import Channel, Closed, Message


class Worker:
    def __init__(self, way: Channel, connection: socket.socket) -> None:
        self.way, self.connection = way, connection
        self.stop = threading.Event()
        self.orders: list[Message] = []
        self.news = threading.Event()
        self.is_silent = False

    def run(self) -> None:
        threading.Thread(target=self.listen, daemon=True).start()
        self.live()
        threading.Thread(target=self.beat, daemon=True).start()
        self.way.send(Message("ready", {"device": "none", "model": "none"}))
        while True:
            self.news.wait()
            self.news.clear()
            while self.orders:
                self.do(self.orders.pop(0))

    def listen(self) -> None:
        while True:
            try:
                message = self.way.receive()
            except Closed:
                os._exit(3)
            if message.kind == "stop":
                self.stop.set()
            elif message.kind == "run":
                self.stop.clear()
                self.orders.append(message)
                self.news.set()

    def beat(self) -> None:
        while not self.is_silent:
            self.live()
            time.sleep(0.05)

    def live(self) -> None:
        self.way.send(Message("alive", {"loaded": ["none"], "device_free": 1, "device_total": 3}))

    def do(self, order: Message) -> None:
        job = order.data["job"]
        resolved: Any = order.data["resolved"]
        for number, step in enumerate(resolved.get("do") or steps_of(order)):
            self.step(step, job, number)
            if step in {"done", "fail"}:
                return
            if self.stop.is_set() and step != "deaf":
                self.way.send(Message("stopped", {"job": job}))
                return

    def step(self, step: Any, job: Any, number: int) -> None:
        if isinstance(step, tuple):
            self.way.send(drawn(job, *step))
        elif step in SENT:
            kind, said, blobs = SENT[step]
            own = {"pid": os.getpid()}
            self.way.send(Message(kind, {"job": job, **said, **({"result": own} if step == "done" else {})}, blobs))
        elif step == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif step == "nonsense":
            self.connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 2)
        elif step == "wait":
            self.stop.wait(600)
        elif step == "late":
            self.stop.wait(600)
            time.sleep(0.3)
        else:
            self.is_silent = step == "silent"
            time.sleep(600)


def steps_of(order: Message) -> list[Any]:
    """What a request is: for each image that is not there some steps, a middle that is saved, and the image."""
    resolved, there = order.data["resolved"], order.data["there"]
    assert isinstance(resolved, dict)
    assert isinstance(there, list)
    count, seed = resolved.get("batch_count", 1), resolved.get("seed", 0)
    assert isinstance(count, int)
    images = [(index, seed, resolved.get("sampler", "")) for index in range(count) if index not in there]
    return [*(step for image in images for step in ("progress", "saved", "progress", image)), "done"]


def drawn(job: Any, index: int, seed: int, sampler: str) -> Message:
    """An image whose bytes are a function of what was asked for."""
    data = f"image {index} of {seed} by {sampler}".encode() * 1000
    said = {"job": job, "index": index, "seed": seed + index, "width": 1, "height": 1, "format": "png", "infotext": ""}
    return Message("image", said, (data, b"small"))


SENT: dict[str, tuple[str, dict[str, Any], tuple[bytes, ...]]] = {
    "progress": ("progress", {"done": 1, "total": 9, "image": 0, "images": 1, "share": 0.5}, ()),
    "image": (
        "image",
        {"index": 0, "seed": 2**64 - 1, "width": 1, "height": 1, "format": "png", "infotext": "text"},
        (b"a file", b"small"),
    ),
    "saved": ("saved", {"image": 0, "step": 3}, (b"middle",)),
    "learned": ("learned", {"points": [[1, 0.5]], "checks": [], "left": 3.0}, ()),
    "warning": ("warning", {"message": "look"}, ()),
    "done": ("done", {"worked": 0.1}, ()),
    "fail": ("failed", {"error": {"kind": "BadInput", "message": "it cannot be done", "exit_code": 2}}, ()),
}
"""What is said at a step: kind, data, blobs."""


MODEL = {"name": "a model", "family": "sd1", "variant": "base", "file": "a.safetensors", "sha256": None}
NOTHING = (
    "controls",
    "annotators",
    "samplers",
    "schedulers",
    "upscalers",
    "latent_upscalers",
    "autoencoders",
    "loras",
    "hypernetworks",
    "embeddings",
    "styles",
)
CATALOGUE: dict[str, Any] = {"models": [MODEL], **{name: [] for name in NOTHING}}


SAID: dict[str, dict[str, Any]] = {
    "shelf": {"files": [{"id": "a", "name": "x"}]},
    "forecast": {"steps": 7, "cost": 40.0},
    "folders": {"folders": ["/nowhere/models"]},
}
"""What the resolver says of files, of a training, and of where things lie."""


def resolve(way: Channel) -> None:
    way.send(Message("ready"))
    while True:
        call = way.receive()
        number, fields = call.data["number"], call.data.get("fields", {})
        assert isinstance(fields, dict)
        while "until" in fields and not Path(str(fields["until"])).exists():
            time.sleep(0.01)
        if call.kind == "catalogue":
            way.send(Message("answer", {"number": number, **CATALOGUE}))
            continue
        if call.kind in SAID:
            way.send(Message("answer", {"number": number, **SAID[call.kind]}))
            continue
        match fields.get("resolver"):
            case "die":
                os._exit(1)
            case "silent":
                time.sleep(600)
            case "TooLarge" | "BadInput" as kind:
                error = {"kind": kind, "message": "no", "exit_code": 2}
                way.send(Message("refused", {"number": number, "error": error}))
            case "fault":
                error = {"kind": "KeyError", "message": "no (a fault of Atelier's own)", "exit_code": 1}
                way.send(Message("refused", {"number": number, "error": error}))
            case _:
                way.send(
                    Message(
                        "answer", {"number": number, "resolved": fields, "cost": 1.0, "warnings": ["note"]}, call.blobs
                    )
                )


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[sys.argv.index("--channel") + 1]))
    way = Channel(connection)
    try:
        if sys.argv[1] == "worker":
            Worker(way, connection).run()
        else:
            resolve(way)
    except Closed:
        os._exit(3)


if __name__ == "__main__":
    main()
