"""One connection of a client: how long it may take to ask, and to take what it asked for."""

from __future__ import annotations

import asyncio
import socket
import struct

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""From a connection's beginning, or the first byte of a further request, to the end of its headers: programs send them
at once."""
TAKING_SECONDS = 60.0
"""What a client may leave of an answer unread, without the system's buffers becoming any emptier."""
LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)
"""Of SO_LINGER: closing drops what was not sent, which the system would keep for many minutes otherwise."""


class Connection(H11Protocol):
    """uvicorn's, which waits for ever for headers, and for a client that reads nothing."""

    _asking: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asking, self._taking = _cancelled(self._asking), _cancelled(self._taking)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(TAKING_SECONDS, self._drop)

    def resume_writing(self) -> None:
        self._taking = _cancelled(self._taking)
        super().resume_writing()

    def _expect(self) -> None:
        """Counts the seconds of headers that have begun to come, or of a client that has not said a word yet."""
        is_new = self.cycle is None  # pyright: ignore[reportUnnecessaryComparison] - uvicorn sets None at first
        if self.conn.their_state is not h11.IDLE or not (is_new or self.conn.trailing_data[0]):
            self._asking = _cancelled(self._asking)
        elif self._asking is None:
            self._asking = self.loop.call_later(HEAD_SECONDS, self._refuse)

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(LATE if self.conn.trailing_data[0] else b"")
            self.transport.close()

    def _drop(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
