"""The server's side of the resolver: calls that are answered, by a process that is kept alive."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from atelier.errors import AtelierError, BadInput
from atelier.request.events import Json
from atelier.runtime.jobs.job import NotReady, TooLarge
from atelier.runtime.workers.backoff import Backoff, rest
from atelier.runtime.workers.messages import BadMessage, Closed, Message, encoded
from atelier.runtime.workers.process import Child, Command

STARTING = 60.0
"""Seconds that a call waits for a resolver that starts."""
ANSWERING = 30.0
"""Seconds that an answer may take; then the resolver is started anew."""
SETTLING = 900.0
"""The same for settling a job, which hashes a model of gigabytes that was never seen, maybe from a slow disk."""
LONG = frozenset({"settle", "shelf", "catalogue"})
"""Calls that may take that long: the first list of a large collection opens the header of every file."""
_log = logging.getLogger("atelier.server")


class Asking:
    """Calls to the resolver. It is started again whenever it dies; what it was asked then is refused with NotReady.

    It answers one call after the other: a call that waits behind a long one may be refused, and the long one goes on.
    """

    def __init__(self, command: Command, *, starting: float = STARTING, answering: float = ANSWERING) -> None:
        self._command, self._starting, self._answering = command, starting, answering
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._asked: dict[int, float] = {}  # calls without an answer, also of callers that are gone, and their limits
        self._since = 0.0  # when the first of them became the first
        self._child: Child | None = None
        self._ready = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    async def call(self, kind: str, data: Mapping[str, Json], *blobs: bytes) -> Message:
        """The answer. Raises what the resolver refuses with: BadInput, TooLarge, or another AtelierError; NotReady
        where it is not there or died of the question."""
        try:
            async with asyncio.timeout(self._starting):
                await self._ready.wait()
        except TimeoutError:
            raise NotReady("the server has not started yet: try again", 5.0) from None
        number, child = next(self._numbers), self._child
        if child is None or self._closing.is_set():
            raise NotReady("the server stops: try again later", 5.0)
        question = _question(kind, {**data, "number": number}, blobs)
        limit = max(self._answering, SETTLING) if kind in LONG else self._answering
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._begun(number, limit)  # before its time begins, or the resolver would seem to have some left at the end
        try:
            async with asyncio.timeout(limit):
                await child.send(question)
                return taken(await answer)
        except TimeoutError:
            if child is self._child and not self._hangs():
                raise NotReady("the server is busy with other requests: try again", 5.0) from None
            if child is self._child:
                self._ready.clear()  # the next question waits for the next resolver
            child.kill()
            raise NotReady(f"the answer took longer than {limit:g} seconds: try again") from None
        except Closed:
            raise _died() from None
        finally:
            self._waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at, or asyncio tells of an error that nobody heard of

    async def run(self) -> None:
        """Keeps the resolver alive until `close`; to be run as a task."""
        backoff = Backoff()
        while not self._closing.is_set():
            backoff.started()
            try:
                self._child = await Child.start("resolver", self._command)
                if self._closing.is_set():  # it was closed before there was anybody to end
                    await self._child.close()
                await self._listen(self._child)
            except (Closed, BadMessage, OSError) as error:
                await self._bury(error)
            except Exception as error:  # noqa: BLE001 - the next resolver may do better, and without one all stands still
                _log.exception("a fault in the server itself")
                await self._bury(error)
            await rest(backoff.died(), self._closing)

    async def close(self) -> None:
        """Ends it for good."""
        self._closing.set()
        self._ready.set()
        if self._child is not None:
            await self._child.close()

    async def _listen(self, child: Child) -> None:
        while True:
            message = await child.receive()
            if message.kind == "ready":
                self._ready.set()
                _log.info("the resolver is ready", extra={"fields": {"pid": child.pid}})
                continue
            number = int(message.number("number"))
            self._asked.pop(number, None)
            self._since = time.monotonic()
            answer = self._waiting.get(number)
            if answer is not None and not answer.done():
                answer.set_result(message)

    def _begun(self, number: int, limit: float) -> None:
        if not self._asked:
            self._since = time.monotonic()
        self._asked[number] = limit

    def _hangs(self) -> bool:
        """Whether the resolver has been with one call for longer than that may take."""
        return bool(self._asked) and time.monotonic() - self._since >= next(iter(self._asked.values()))

    async def _bury(self, error: Exception) -> None:
        if not self._closing.is_set():
            self._ready.clear()
        child, self._child = self._child, None
        self._asked.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_died())
        if child is None:
            _log.error("the resolver cannot be started", extra={"fields": {"reason": str(error)}})
            return
        child.kill()
        with suppress(OSError):
            code = await child.ended()
            if not self._closing.is_set():
                _log.error("the resolver died", extra={"fields": {"pid": child.pid, "exit": code}})


def _question(kind: str, data: Mapping[str, Json], blobs: tuple[bytes, ...]) -> Message:
    """Raises TooLarge for more than a message holds."""
    message = Message(kind, data, blobs)
    try:
        encoded(message)
    except BadMessage as error:
        raise TooLarge(f"the request is too large: {error}") from None
    return message


def _died() -> NotReady:
    return NotReady("the process that settles requests died, and is started again: try again")


def taken(message: Message) -> Message:
    """The answer. Raises what it was refused with."""
    if message.kind == "answer":
        return message
    error = message.object("error")
    text, code, field = str(error.get("message")), error.get("exit_code"), error.get("field")
    made = TooLarge if error.get("kind") == "TooLarge" else BadInput if code == BadInput.exit_code else AtelierError
    refused = made(text)
    refused.field = None if field is None else str(field)
    raise refused
