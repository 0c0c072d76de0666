"""How uvicorn is told to serve: strict parsing, no web sockets, no log of its own."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI

from atelier.api.connection import Connection

HEAD_BYTES = 64 << 10
"""Of the first line and all headers."""
KEEP_ALIVE = 15
"""Seconds that a connection may lie idle."""


def config(app: FastAPI, *, connections: int = 512, closing: int = 5) -> uvicorn.Config:
    """The configuration of the HTTP server, for a socket that listens already. connections: at once; more are answered
    503. closing: seconds that open connections have to end when it stops.

    The parser is h11, which refuses what two programs may read in two ways: both Content-Length and Transfer-Encoding,
    folded headers, a bare line feed; `Connection` adds how long each may take. Forwarded headers are not believed.
    """
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=closing,
        limit_concurrency=connections,
    )
