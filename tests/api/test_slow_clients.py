"""H15: clients that send a byte now and then, or read nothing, hold nobody up and lose their connection."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from atelier.api import connection
from atelier.api.guards import body
from fakes.live import live, wait_for
from fakes.service import FakeService

SOON = 0.3
"""Seconds, in place of the server's own."""
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, live(FakeService()) as url:
        patch.setattr(connection, "HEAD_SECONDS", SOON)
        patch.setattr(connection, "TAKING_SECONDS", SOON)
        patch.setattr(body, "IDLE_SECONDS", SOON)
        yield url


def connected(address: str) -> socket.socket:
    url = httpx.URL(address)
    return socket.create_connection((url.host, url.port or 80), timeout=10)


def rest(client: socket.socket) -> bytes:
    """All that still comes, until the server closes."""
    parts: list[bytes] = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def dribbled(client: socket.socket, data: bytes, most: int = 200) -> bytes:
    """What is answered to data that comes byte by byte, each long before the server loses patience."""
    for at in range(most):
        if select.select([client], [], [], 0.03)[0]:
            break
        client.sendall(data[at % len(data) :][:1])
    else:
        raise AssertionError("the server still waits")
    return rest(client)


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["first", "second"])
def test_headers_that_come_byte_by_byte_end_the_connection(address: str, before: bytes) -> None:
    with connected(address) as client:
        if before:
            client.sendall(before)
            while b'"ok"' not in client.recv(1 << 16):
                pass
        told = dribbled(client, b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 500)
    assert told == connection.LATE
    assert httpx.get(address + "/healthz").status_code == 200


def test_a_client_that_says_nothing_is_left(address: str) -> None:
    with connected(address) as client:
        assert rest(client) == b""


def test_a_body_that_comes_byte_by_byte_is_refused(address: str) -> None:
    with connected(address) as client:
        client.sendall(HEAD + b"Content-Length: 5000\r\n\r\n")
        told = dribbled(client, b" " * 5000)
    assert told.startswith(b"HTTP/1.1 408")
    assert b"slower than 500 bytes a second" in told


def test_a_body_that_comes_fast_enough_may_take_longer_than_that(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "SLOWEST", 1)
    with connected(address) as client:
        client.sendall(HEAD + b"Content-Length: 26\r\nConnection: close\r\n\r\n")
        for byte in b'{"prompt":"abcdefghijklm"}':
            time.sleep(0.03)
            client.sendall(bytes([byte]))
        assert rest(client).startswith(b"HTTP/1.1 202")


def test_a_request_that_takes_long_is_no_slow_client(address: str) -> None:
    service = FakeService()
    service.delay = SOON
    with live(service) as url:
        answer = httpx.post(url + "/v1/images/generations", json={"prompt": "slowly made"}, timeout=20)
    assert answer.status_code == 200


def test_a_client_that_reads_nothing_loses_the_connection(address: str) -> None:
    with connected(address) as client:
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
        client.sendall(asked)
        gone = select.poll()
        gone.register(client, 0)
        wait_for(lambda: gone.poll(0), 30)
    assert httpx.get(address + "/healthz").status_code == 200
