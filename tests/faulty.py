"""`atelier serve` that can be told to die, to be slow or to run out of disk at named points: `python -m faulty serve`.

FAULTY is a JSON object. server: POINT:N:ACTION in the store of jobs, counted from the first job on; worker: MESSAGE:N,
the worker dies before the n-th message of that kind; once: a file that is made then, so that it happens only once;
armed: a file without which no message is counted; slow: seconds that each step takes; save, saying, lease: in place of
usual ones; opened: no process begins before a file of that name is there; fake: the processes are those of
fakes.process, which need no torch. A prompt with "abort" in it ends its worker.

FAULTY_FOLDER is where tests put files while it runs. held: a number of steps, behind which no job goes on while it is
there, unless it is told to stop; hurried: the number of a process, which the server takes for dead once it has said
nothing for a few seconds.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from atelier import compose

TOLD: dict[str, Any] = json.loads(os.environ.get("FAULTY", "{}"))
FOLDER = Path(os.environ.get("FAULTY_FOLDER", "."))
HURRIED = 3.0
"""Seconds."""
STOPPING = 120.0
"""Seconds that a worker has to stop a job: on a busy machine a step takes long."""
ABORTING = "abort"


def server() -> None:
    from atelier.api import desk
    from atelier.cli import app
    from atelier.runtime.jobs.faults import Fault, Faults
    from atelier.runtime.jobs.limits import USUAL
    from atelier.runtime.jobs.store import JobStore
    from atelier.runtime.workers import post

    compose.PROCESSES = "faulty"
    real, lease = JobStore.open, TOLD.get("lease", USUAL.lease)
    faults = Faults()
    limits = dataclasses.replace(USUAL, lease=lease)

    def opened(folder: Path, url: str | None = None) -> JobStore:
        return real(folder, url, limits=limits, faults=faults)

    accept = JobStore.accept

    def accepted(self: JobStore, *given: Any) -> Any:
        if "server" in TOLD:
            faults._fault = Fault.parsed(TOLD["server"])
        return accept(self, *given)

    JobStore.accept = accepted  # type: ignore[method-assign] - replaced for the test
    JobStore.open = opened  # type: ignore[method-assign, assignment] - replaced for the test
    staff = desk.Staff
    desk.Staff = lambda **told: staff(**told, lease=lease)  # type: ignore[misc, assignment] - replaced for the test
    desk.WATCHING = 0.1
    post.STOPPING = STOPPING
    hurrying(lease)
    app.main()


def hurrying(lease: float) -> None:
    """Lets the lease of one process be short, which is told once it is so."""
    import logging

    from atelier.runtime.workers.post import Post

    def patience(self: Post) -> float:
        if written("hurried") != self.pid:
            return lease
        logging.getLogger("atelier.server").info("a worker is hurried")
        return HURRIED

    Post._lease = property(patience, lambda _self, _lease: None)  # type: ignore[assignment] - replaced for the test


def written(name: str) -> int | None:
    """The number in a file of that name, None where there is none."""
    try:
        return int((FOLDER / name).read_text())
    except FileNotFoundError:
        return None


def process() -> None:
    from atelier.runtime.workers.messages import Channel, Message

    parent = os.getppid()
    while "opened" in TOLD and not Path(TOLD["opened"]).exists() and os.getppid() == parent:
        time.sleep(0.01)
    if sys.argv[1] == "worker":
        real, receive = Channel.send, Channel.receive
        passed: Counter[str] = Counter()
        stopped = set[Any]()

        def send(self: Channel, message: Message) -> None:
            passed[message.kind] += is_armed()
            if message.kind == "progress":
                time.sleep(TOLD.get("slow", 0))
            if is_armed() and f"{message.kind}:{passed[message.kind]}" == TOLD.get("worker"):
                die()
            real(self, message)
            while message.kind == "progress" and is_held(message) and message.data["job"] not in stopped:
                time.sleep(0.01)

        def received(self: Channel) -> Message:
            message = receive(self)
            if message.kind == "stop":
                stopped.add(message.data["job"])
            return message

        Channel.send, Channel.receive = send, received  # type: ignore[method-assign] - replaced for the test
    if TOLD.get("fake"):
        from fakes import process as fake

        fake.main()
    else:
        real_process()


def real_process() -> None:
    from atelier.cli import process
    from atelier.runtime.workers import kind

    if sys.argv[1] == "worker":
        aborting(kind)
        saving(kind)
    process.main()


def saving(kind: Any) -> None:
    """Saves, and says how a training goes, as often as it is told to: how often a usual worker does so depends on how
    long it takes."""
    if "save" in TOLD:
        from atelier.runtime.workers.kinds import generate

        most = kind.Most
        kind.Most = lambda: most(save=TOLD["save"])
        generate.SAVING_SHARE = math.inf
    if "saying" in TOLD:
        from atelier.runtime.workers.kinds import teach

        teach.SAYING = TOLD["saying"]


def aborting(kind: Any) -> None:
    """Lets a prompt end its worker, as a fault in a library would."""
    real = kind.kinds

    def told() -> Any:
        generate = real()["generate"]

        def perform(task: Any, bench: Any) -> Any:
            if ABORTING in json.dumps(task.resolved["samples"]):
                os.abort()
            return generate.perform(task, bench)

        return {**real(), "generate": dataclasses.replace(generate, perform=perform)}

    from atelier.runtime.workers import worker

    worker.kinds = told  # type: ignore[assignment] - replaced for the test


def is_held(message: Any) -> bool:
    """Whether the job does not go on behind the step that the message tells of."""
    last = written("held")
    return last is not None and message.number("done") >= last


def is_armed() -> bool:
    """Whether messages are counted by now."""
    return "armed" not in TOLD or Path(TOLD["armed"]).exists()


def die() -> None:
    once = TOLD.get("once")
    if once is not None:
        if Path(once).exists():
            return
        Path(once).touch()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    process() if sys.argv[1] in {"resolver", "worker"} else server()
