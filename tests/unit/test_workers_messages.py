"""Frames between processes: what is read back, and what hostile ones cost."""

import asyncio
import socket
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.runtime.workers.messages import (
    MOST_BLOBS,
    MOST_BYTES,
    MOST_JSON,
    BadMessage,
    Channel,
    Closed,
    Message,
    encoded,
    read,
)

HEAD = struct.Struct(">4sII")


def both(raw: bytes) -> list[object]:
    """What each of the two readers makes of bytes that end."""
    return [outcome(lambda: _async(raw)), outcome(lambda: _sync(raw))]


def outcome(of):
    try:
        return of()
    except (BadMessage, Closed) as error:
        return type(error)


def _async(raw: bytes) -> Message:
    async def run() -> Message:
        stream = asyncio.StreamReader()
        stream.feed_data(raw)
        stream.feed_eof()
        return await read(stream)

    return asyncio.run(run())


def _sync(raw: bytes) -> Message:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=lambda: (theirs.sendall(raw), theirs.shutdown(socket.SHUT_WR)))
        sender.start()
        try:
            return Channel(ours).receive()
        finally:
            sender.join()


def test_a_frame_is_these_bytes():
    text = b'{"n":1,"kind":"run"}'
    expected = b"AtW1" + bytes([0, 0, 0, len(text), 0, 0, 0, 2]) + bytes([0] * 7 + [3] + [0] * 8) + text + b"abc"
    assert encoded(Message("run", {"n": 1}, (b"abc", b""))) == expected
    assert both(expected) == [Message("run", {"n": 1}, (b"abc", b""))] * 2


@settings(max_examples=20, deadline=None)
@given(
    st.text(),
    st.dictionaries(st.text(min_size=1).filter(lambda key: key != "kind"), st.integers() | st.text() | st.none()),
    st.lists(st.binary(max_size=50), max_size=3).map(tuple),
)
def test_what_is_sent_is_what_is_read(kind, data, blobs):
    assert both(encoded(Message(kind, data, blobs))) == [Message(kind, data, blobs)] * 2


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HEAD.pack(b"AtW1", MOST_JSON + 1, 0),
        HEAD.pack(b"AtW1", 2, MOST_BLOBS + 1),
        HEAD.pack(b"AtW1", 2, 2**32 - 1),
        HEAD.pack(b"AtW1", 2, 1) + struct.pack(">Q", MOST_BYTES + 1),
        HEAD.pack(b"AtW1", 2, 2) + struct.pack(">QQ", 2**64 - 1, 1),
        HEAD.pack(b"AtW1", 2, 0) + b"[]",
        HEAD.pack(b"AtW1", 2, 0) + b"{}",
        HEAD.pack(b"AtW1", 10, 0) + b'{"kind":1}',
        HEAD.pack(b"AtW1", 4, 0) + b"\xff\xfe{}",
        HEAD.pack(b"AtW1", 20, 0) + b'{"kind":"a","n":NaN}',
        HEAD.pack(b"AtW1", 200_000, 0) + b"[" * 200_000,
    ],
    ids=[
        "http",
        "json-too-long",
        "blobs-too-many",
        "blobs-4-billion",
        "blob-too-long",
        "lengths-overflow",
        "list",
        "no-kind",
        "kind-is-a-number",
        "no-utf8",
        "nan",
        "nested",
    ],
)
def test_nonsense_is_refused(raw):
    assert both(raw) == [BadMessage, BadMessage]


def test_a_frame_cut_anywhere_is_the_end():
    whole = encoded(Message("run", {"a": "b"}, (b"xyz",)))
    for length in range(0, len(whole), 5):
        assert both(whole[:length]) == [Closed, Closed]


def test_too_much_is_not_sent():
    for message in (
        Message("a", {"text": "x" * MOST_JSON}),
        Message("a", blobs=(b"",) * (MOST_BLOBS + 1)),
        Message("a", {"n": float("nan")}),
    ):
        with pytest.raises(BadMessage):
            encoded(message)


def test_values_have_the_type_that_is_asked_for():
    message = Message("a", {"text": "t", "n": 1.5, "on": True, "o": {}})
    assert (message.text("text"), message.number("n"), message.object("o")) == ("t", 1.5, {})
    for get, key in ((message.text, "n"), (message.number, "text"), (message.number, "on"), (message.object, "none")):
        with pytest.raises(BadMessage):
            get(key)


def test_sending_to_the_dead_tells_so():
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(Closed):
        Channel(ours).send(Message("a"))
