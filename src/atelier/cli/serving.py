"""Running the server: its socket, its loop, its signals, its log."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

import atelier
from atelier.api.app import app
from atelier.api.desk import Desk, Staff
from atelier.api.serving import config
from atelier.api.settings import Settings
from atelier.errors import BadInput
from atelier.runtime.jobs.job import StoreFailed, located
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.workers.remembered import Remembered

BACKLOG = 512
HTTP = "atelier.http"
"""The logger of the fronts."""
CLOSING = 5
"""Seconds that open connections have to end, once all jobs rest."""
_log = logging.getLogger("atelier.server")


@dataclass(frozen=True, slots=True)
class Place:
    """Where it listens."""

    host: str
    port: int

    def listening(self) -> socket.socket:
        """Raises BadInput where that cannot be had, in one line."""
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            made = socket.socket(family, kind, proto)
        except (OSError, UnicodeError) as error:
            raise BadInput(f"--host {self.host}: is no address of this machine ({error})") from error
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(address)
        except OSError as error:
            made.close()
            if error.errno == errno.EADDRINUSE:
                told = f"--port {self.port}: another program listens there: stop it, or choose another port"
                raise BadInput(told) from error
            raise BadInput(f"--host {self.host} --port {self.port}: cannot be used ({error.strerror})") from error
        made.listen(BACKLOG)
        return made


class JsonLines(logging.Formatter):
    """Each record as one line of JSON, in which no value can pretend to be another line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {"time": round(record.created, 3), "level": record.levelname.lower()}
        said |= _message(record) | _fields(record)
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


class TextLines(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        said = _message(record) | _fields(record)
        message = str(said.pop("message"))
        values = " ".join(f"{key}={json.dumps(value, default=str)}" for key, value in said.items())
        error = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{clock} {record.levelname.lower():7} {json.dumps(message)[1:-1]} {values}".rstrip() + error


def _message(record: logging.LogRecord) -> dict[str, object]:
    """What is said, of a request its fields: those are told as JSON already."""
    text = record.getMessage()
    if record.name != HTTP:
        return {"message": text}
    try:
        found: object = json.loads(text)
    except ValueError:
        return {"message": text}
    return (
        {"message": "a request", **cast("dict[str, object]", found)} if isinstance(found, dict) else {"message": text}
    )


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found: object = record.__dict__.get("fields", {})
    return dict(found) if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - whatever a record was given


@dataclass(slots=True)
class _Running:
    """The server while it runs. stopping: set by a signal."""

    desk: Desk
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


class _Server(uvicorn.Server):
    """uvicorn's, but that a signal lets jobs rest before connections are closed."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop, self._is_told = stop, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second signal does not wait."""
        if self._is_told:
            super().handle_exit(sig, frame)
        self._is_told = True
        self._stop()


def run(place: Place, settings: Settings, staff: Staff, folder: Path, database: str | None, *, text: bool) -> None:
    """Serves until it is told to stop. Raises BadInput, FolderInUse, StoreFailed where it cannot begin."""
    _log_to(sys.stderr.isatty() or text)
    listening = place.listening()
    try:
        store = JobStore.open(folder, database)
    except BaseException as error:
        listening.close()
        if isinstance(error, StoreFailed):
            raise StoreFailed(located(error), full=error.full) from error
        raise
    for notice in store.notices:
        _log.warning(notice)
    desk = Desk(store, staff, Remembered(folder / "catalogue.json", atelier.__version__))
    asyncio.run(_serve(listening, settings, desk))


async def _serve(listening: socket.socket, settings: Settings, desk: Desk) -> None:
    running = _Running(desk)
    loop = asyncio.get_running_loop()
    made = app(desk, settings)
    made.router.lifespan_context = _lifespan(desk)

    def stop() -> None:
        loop.call_soon_threadsafe(running.stopping.set)

    server = _Server(config(made, closing=CLOSING), stop)
    resting = asyncio.create_task(_rest(server, running))
    _announce(listening, desk)
    try:
        await server.serve(sockets=[listening])
    finally:
        resting.cancel()


async def _rest(server: uvicorn.Server, running: _Running) -> None:
    """Once told to stop: jobs first, then connections."""
    await running.stopping.wait()
    _log.info("the server stops: running jobs end or are given back")
    try:
        await running.desk.stop()
    finally:
        server.should_exit = True


def _lifespan(desk: Desk) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncGenerator[None]:
        await desk.start()
        yield

    return life


def _announce(listening: socket.socket, desk: Desk) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    fields = {"url": f"http://{shown}:{port}", "version": atelier.__version__, "model": desk.model, "pid": os.getpid()}
    _log.info("Atelier serves", extra={"fields": fields})


def _log_to(is_text: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines() if is_text else JsonLines())
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.INFO
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "httpx"):  # httpx tells whole addresses
        logging.getLogger(name).setLevel(logging.WARNING)
