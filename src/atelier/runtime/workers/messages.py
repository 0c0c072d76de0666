"""What the server's processes say to each other: JSON with binary blobs behind it, in frames of bounded size.

A frame is a mark, the length of the JSON, the number of blobs and the length of each, all big endian; then the JSON in
UTF-8, then the blobs. The JSON is an object whose "kind" says what the message is. Nothing in a frame is ever executed.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from asyncio import IncompleteReadError, StreamReader
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from atelier.errors import AtelierError
from atelier.request.events import Json

MARK = b"AtW1"
_HEAD = struct.Struct(">4sII")
_LENGTH = struct.Struct(">Q")
MOST_JSON = 16 * 2**20
"""Bytes of the JSON of a message: a catalogue of some ten thousand files."""
MOST_BLOBS = 64
MOST_BYTES = 512 * 2**20
"""Bytes of all blobs of a message: more than any image that is taken or made."""


class BadMessage(AtelierError):
    """Bytes that are no message, or one beyond the limits: the process that sent it cannot be trusted further."""


class Closed(AtelierError):
    """The other process is gone."""


@dataclass(frozen=True, slots=True)
class Message:
    """kind: what it is; data: the rest of its JSON; blobs: bytes that come with it."""

    kind: str
    data: Mapping[str, Json] = field(default_factory=dict[str, Json])
    blobs: tuple[bytes, ...] = field(default=(), repr=False)

    def text(self, key: str) -> str:
        """A value that is text. Raises BadMessage."""
        value = self.data.get(key)
        if not isinstance(value, str):
            raise BadMessage(f"the message {self.kind!r} has no text {key!r}")
        return value

    def number(self, key: str) -> float:
        """A value that is a number. Raises BadMessage."""
        value = self.data.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadMessage(f"the message {self.kind!r} has no number {key!r}")
        return value

    def object(self, key: str) -> dict[str, Json]:
        """A value that is an object. Raises BadMessage."""
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise BadMessage(f"the message {self.kind!r} has no object {key!r}")
        return value


def encoded(message: Message) -> bytes:
    """The frame of a message. Raises BadMessage for one beyond the limits, and for numbers that are not finite."""
    try:
        text = json.dumps({**message.data, "kind": message.kind}, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadMessage(f"the message {message.kind!r} is no JSON ({error})") from None
    lengths = [len(blob) for blob in message.blobs]
    _check(len(text), lengths)
    head = _HEAD.pack(MARK, len(text), len(lengths)) + b"".join(map(_LENGTH.pack, lengths))
    return b"".join((head, text, *message.blobs))


async def read(stream: StreamReader) -> Message:
    """The next message. Raises Closed where the other side is gone, BadMessage where it talks nonsense."""
    try:
        size, count = _head(await stream.readexactly(_HEAD.size))
        lengths = _lengths(await stream.readexactly(count * _LENGTH.size), size)
        text = await stream.readexactly(size)
        blobs = [await stream.readexactly(length) for length in lengths]
    except (IncompleteReadError, OSError) as error:
        raise Closed("the other process is gone") from error
    return _decoded(text, tuple(blobs))


class Channel:
    """The worker's side: reads in one thread, writes from any.

    Writing waits while the other side does not read, so that a slow server holds a fast worker back.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._lock = connection, threading.Lock()

    def send(self, message: Message) -> None:
        """Raises Closed, BadMessage."""
        data = encoded(message)
        with self._lock:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise Closed("the other process is gone") from error

    def receive(self) -> Message:
        """Raises Closed, BadMessage."""
        size, count = _head(self._exactly(_HEAD.size))
        lengths = _lengths(self._exactly(count * _LENGTH.size), size)
        text = self._exactly(size)
        return _decoded(text, tuple(self._exactly(length) for length in lengths))

    def _exactly(self, size: int) -> bytes:
        """Grows as bytes come: a length that is only said costs nothing."""
        parts, missing = bytearray(), size
        while missing:
            try:
                part = self._socket.recv(min(missing, 2**20))
            except OSError as error:
                raise Closed("the other process is gone") from error
            if not part:
                raise Closed("the other process is gone")
            parts += part
            missing -= len(part)
        return bytes(parts)


def _head(raw: bytes) -> tuple[int, int]:
    """(bytes of the JSON, number of blobs)."""
    mark, size, count = _HEAD.unpack(raw)
    if mark != MARK:
        raise BadMessage(f"a message begins with {mark!r}")
    _check(size, [0] * min(count, MOST_BLOBS + 1))
    return size, count


def _lengths(raw: bytes, size: int) -> list[int]:
    lengths = [int(length) for (length,) in _LENGTH.iter_unpack(raw)]
    _check(size, lengths)
    return lengths


def _check(size: int, lengths: list[int]) -> None:
    if size > MOST_JSON:
        raise BadMessage(f"a message has more than {MOST_JSON:,} bytes of JSON")
    if len(lengths) > MOST_BLOBS:
        raise BadMessage(f"a message has more than {MOST_BLOBS} blobs")
    if sum(lengths) > MOST_BYTES:
        raise BadMessage(f"a message has more than {MOST_BYTES:,} bytes of blobs")


def _decoded(text: bytes, blobs: tuple[bytes, ...]) -> Message:
    try:
        found = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"a message is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadMessage("a message is no JSON object")
    data = cast("dict[str, Json]", found)
    kind = data.pop("kind", None)
    if not isinstance(kind, str):
        raise BadMessage("a message does not say its kind")
    return Message(kind, data, blobs)


def _refused(name: str) -> Json:
    raise ValueError(f"{name} is no number of JSON")
