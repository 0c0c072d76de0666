"""H15: clients that send a byte now and then, or read nothing, hold nobody up and lose their connection."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
from starlette.types import Message, Receive, Scope, Send

from atelier.api import connection
from atelier.api.errors import Refused
from atelier.api.guards import body
from fakes.live import SECONDS, connected, get, live, sent, wait_for
from fakes.service import FakeService

SOON = 0.3
"""Seconds, in place of the one of the server's own that a test is about. A slow machine makes happen earlier what is to
happen, and nothing else."""
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with live(FakeService()) as url:
        yield url


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client is too slow but where a test says so."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", SECONDS)
    monkeypatch.setattr(connection, "TAKING_SECONDS", SECONDS)
    monkeypatch.setattr(body, "IDLE_SECONDS", SECONDS)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The server meets a client only once this is set: by then it has sent what a client sends at once."""
    meet, sent_at_once = connection.Connection.connection_made, threading.Event()

    def met(self: connection.Connection, transport: asyncio.Transport) -> None:
        assert sent_at_once.wait(SECONDS)
        meet(self, transport)

    monkeypatch.setattr(connection.Connection, "connection_made", met)
    return sent_at_once


def rest(client: socket.socket) -> bytes:
    """All that still comes, until the server closes."""
    parts: list[bytes] = []
    with suppress(ConnectionResetError):  # it closed before it had read all
        while part := client.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def dribbled(client: socket.socket, data: bytes, most: int = 200) -> bytes:
    """What is answered to data that comes byte by byte, each long before the server loses patience."""
    for at in range(most):
        if select.select([client], [], [], 0.03)[0]:
            break
        with suppress(ConnectionError):  # it closed a moment ago
            client.sendall(data[at % len(data) :][:1])
    else:
        raise AssertionError("the server still waits")
    return rest(client)


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["first", "second"])
def test_headers_that_come_byte_by_byte_end_the_connection(
    address: str, before: bytes, begun: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(address) as client:
        if before:
            client.sendall(before)
            begun.set()
            while b'"ok"' not in client.recv(1 << 16):
                pass
        monkeypatch.setattr(connection, "HEAD_SECONDS", SOON)
        client.sendall(b"G")
        begun.set()
        told = dribbled(client, b"ET / HTTP/1.1\r\nX-Long: " + b"a" * 500)
    assert told == connection.LATE
    monkeypatch.setattr(connection, "HEAD_SECONDS", SECONDS)
    assert get(address + "/healthz").status_code == 200


def test_a_client_that_says_nothing_is_left(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", SOON)
    with connected(address) as client:
        assert rest(client) == b""


def test_a_body_that_comes_byte_by_byte_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "IDLE_SECONDS", SOON)
    with connected(address) as client:
        client.sendall(HEAD + b"Content-Length: 5000\r\n\r\n")
        told = dribbled(client, b" " * 5000)
    assert told.startswith(b"HTTP/1.1 408")
    assert b"slower than 500 bytes a second" in told


@pytest.mark.parametrize("rate", [500, 499])
def test_a_body_that_comes_fast_enough_may_take_as_long_as_it_takes(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand pieces, one each 20 seconds: those of the slower one are late after 30 seconds' worth of bytes."""
    pieces = [b"x" * 20 * rate] * 1000
    came: list[bytes] = []
    monkeypatch.setattr(body, "IDLE_SECONDS", 30)
    monkeypatch.setattr(body, "time", SimpleNamespace(monotonic=lambda: 20.0 * (1000 - len(pieces))))

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    async def taken(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (message := await receive())["more_body"]:
            came.append(message["body"])

    headers = [(b"content-type", b"application/json"), (b"content-length", b"10000000")]
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "headers": headers}
    taking = body.Bodies(taken, 10_000_000)(scope, receive, unexpected)
    if rate < body.SLOWEST:
        with pytest.raises(Refused, match="slower than 500 bytes a second"):
            asyncio.run(taking)
        assert len(came) == 750
    else:
        asyncio.run(taking)
        assert len(came) == 999


async def unexpected(message: Message) -> None:
    raise AssertionError(message)


def test_a_request_that_takes_long_is_no_slow_client(begun: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((connection, "HEAD_SECONDS"), (connection, "TAKING_SECONDS"), (body, "IDLE_SECONDS")):
        monkeypatch.setattr(module, name, SOON)
    asked = {"prompt": "slowly made"}
    with live(FakeService(delay=SOON)) as url, sent(url, "/v1/images/generations", asked) as client:
        begun.set()
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_client_that_reads_nothing_loses_the_connection(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TAKING_SECONDS", SOON)
    with connected(address) as client:
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
        client.sendall(asked)
        gone = select.poll()
        gone.register(client, 0)
        wait_for(lambda: gone.poll(0))
    assert get(address + "/healthz").status_code == 200
