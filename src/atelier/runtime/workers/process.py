"""The server's end of a process of its own: started, spoken to, ended."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from atelier.runtime.workers.messages import Closed, Message, encoded, read

CHANNEL = "--channel"
"""What the number of the socket follows on the command line of a process."""
PATIENCE = 3.0
"""Seconds that a process has to end by itself when its socket is closed."""
LONGEST_LINE = 4000
"""Characters of a line on a process's stderr that are logged."""
_log = logging.getLogger("atelier.server")


@dataclass(frozen=True, slots=True)
class Command:
    """How a process is started. environment: all of it, None = the server's own."""

    arguments: Sequence[str]
    environment: Mapping[str, str] | None = None


class Child:
    """A running process. What it writes to stderr becomes lines of the log."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.name, self._process, self._reader, self._writer = name, process, reader, writer
        self._errors = asyncio.create_task(self._logged())

    @classmethod
    async def start(cls, name: str, command: Command) -> Self:
        """Raises OSError where it cannot be started."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *command.arguments,
                CHANNEL,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                env=None if command.environment is None else dict(command.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                limit=2**16,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(name, process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def send(self, message: Message) -> None:
        """Raises Closed."""
        try:
            self._writer.write(encoded(message))
            await self._writer.drain()
        except OSError as error:
            raise Closed(f"{self.name} is gone") from error

    async def receive(self) -> Message:
        """Raises Closed, BadMessage."""
        return await read(self._reader)

    def kill(self) -> None:
        """Ends it at once, also where it is stopped."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Waits until it has ended; what it exited with, negative for a signal."""
        code = await self._process.wait()
        await self._errors
        self._writer.close()
        return code

    async def close(self) -> int:
        """Ends it: it sees that nobody speaks any more, and is killed where it does not."""
        self._writer.close()
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.ended()
        except TimeoutError:
            self.kill()
            return await self.ended()

    async def _logged(self) -> None:
        assert self._process.stderr is not None
        while line := await _line(self._process.stderr):
            text = line.decode("utf-8", "replace").rstrip()[:LONGEST_LINE]
            if text:
                _log.warning(
                    "a process wrote to its error output", extra={"fields": {"process": self.name, "text": text}}
                )


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line, or what is there of one that is too long; empty at the end."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(max(error.consumed, 1))
