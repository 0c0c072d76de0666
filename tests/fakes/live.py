"""The application behind a real socket: uvicorn in a thread, on a free port."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import httpx
import uvicorn

from atelier.api.app import app
from atelier.api.service import Service
from atelier.api.serving import config
from atelier.api.settings import Settings

SECONDS = 120.0
"""The longest that anything may take, on a busy machine."""
get, post = partial(httpx.get, timeout=SECONDS), partial(httpx.post, timeout=SECONDS)
"""As httpx has them, for a server that may be slow."""


@contextmanager
def live(service: Service, settings: Settings | None = None) -> Iterator[str]:
    """Serves until the block ends; gives the address, "http://127.0.0.1:PORT"."""
    with socket.socket(proto=socket.IPPROTO_TCP) as free:  # told the protocol, asyncio sends each write at once
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
            thread.join(SECONDS)


def connected(address: str) -> socket.socket:
    """A connection to a server, to be closed by who asked for it."""
    url = httpx.URL(address)
    return socket.create_connection((url.host, url.port or 80), timeout=SECONDS)


def sent(address: str, path: str, body: Mapping[str, object]) -> socket.socket:
    """A connection over which JSON was posted, and whose answer nobody has read."""
    connection, data = connected(address), json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + data)
    return connection


def wait_for(true: Callable[[], object], seconds: float = SECONDS) -> None:
    """Until a function says true."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)
