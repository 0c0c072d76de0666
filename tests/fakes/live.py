"""The application behind a real socket: uvicorn in a thread, on a free port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from atelier.api.app import app
from atelier.api.service import Service
from atelier.api.serving import config
from atelier.api.settings import Settings


@contextmanager
def live(service: Service, settings: Settings | None = None) -> Iterator[str]:
    """Serves until the block ends; gives the address, "http://127.0.0.1:PORT"."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        free.listen()
        server = uvicorn.Server(config(app(service, settings or Settings())))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]}, daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{free.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def wait_for(true: object, seconds: float = 10.0) -> None:
    """Until a function says true."""
    assert callable(true)
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)
