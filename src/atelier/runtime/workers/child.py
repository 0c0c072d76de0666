"""What every process of the server's does with its own end: it lives only as long as the server."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable

from atelier.errors import AtelierError
from atelier.request.events import Json
from atelier.runtime.workers.messages import BadMessage, Channel, Closed, Message

PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that the system sends when the parent dies."""
ORPHANED = 3
"""What a process exits with whose server is gone."""


def channel(descriptor: int) -> Channel:
    """The way to the server, over a socket that this process was started with."""
    return Channel(socket.socket(fileno=descriptor))


def belong_to_parent() -> None:
    """Makes the system end this process with its parent, also where it is stopped and hears nothing; leaves it to the
    parent what Ctrl-C and SIGTERM mean. Does nothing of the first where the system is not Linux."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or parent == 1:
            leave()


def listen(way: Channel, hear: Callable[[Message], None]) -> None:
    """Reads messages in a thread of its own until the server is gone; then this process ends, whatever it does."""

    def run() -> None:
        try:
            while True:
                hear(way.receive())
        except (Closed, BadMessage):
            leave()

    threading.Thread(target=run, name="messages", daemon=True).start()


def leave() -> None:
    """Ends this process at once: nobody is there for whom anything should be finished."""
    os._exit(ORPHANED)


def error_data(error: Exception) -> dict[str, Json]:
    """What is told of an error: its class, one line, the exit code. A fault of ours goes to stderr whole."""
    if isinstance(error, AtelierError):
        said: dict[str, Json] = {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
        return said if error.field is None else {**said, "field": error.field}
    if isinstance(error, MemoryError):
        return {
            "kind": "BadInput",
            "message": "this does not fit in memory: choose a smaller size, batch or model",
            "exit_code": 2,
        }
    traceback.print_exception(error)
    what = (str(error).splitlines() or [""])[0][:500]
    return {"kind": type(error).__name__, "message": f"{what} (a fault of Atelier's own)", "exit_code": 1}
