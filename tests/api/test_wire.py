"""H12, H13, H16, O06: what arrives over a real socket, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from atelier.api.openai import streamed
from atelier.api.settings import Settings
from atelier.runtime.jobs.job import State
from effort import little_work
from fakes.live import SECONDS, connected, get, live, post, sent, wait_for
from fakes.service import FakeService, png

SERVICE = FakeService()
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with live(SERVICE, Settings(body_limit=LIMIT)) as url:
        yield url


@pytest.fixture(autouse=True)
def _healthy(address: str) -> Iterator[None]:
    """After each attack the server answers as before."""
    SERVICE.delay, SERVICE.stays = 0.0, 0
    yield
    assert get(address + "/healthz").json() == {"status": "ok"}


def raw(address: str, data: bytes) -> bytes:
    """All that the server answers to some bytes."""
    with connected(address) as connection:
        connection.sendall(data)
        answer = b""
        with suppress(ConnectionResetError):  # the server closed before it had read all
            while chunk := connection.recv(1 << 16):
                answer += chunk
        return answer


HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ABUSE = {
    "both lengths": HEAD
    + b"Content-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 14\r\nContent-Length: 2\r\n\r\n{}",
    "length of words": HEAD + b"Content-Length: ten\r\n\r\n{}",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c: d\r\nX Y: z\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n",
    "absolute address": b"GET http://evil.com/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "large header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * (128 << 10) + b"\r\n\r\n",
    "bad method": b"G\x01T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n",
}


@pytest.mark.parametrize("name", ABUSE)
def test_abuse_of_the_protocol_is_refused_and_closes_the_connection(address: str, name: str) -> None:
    before = list(SERVICE.calls)
    answer = raw(address, ABUSE[name])
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")) or (name == "large header" and not answer), answer
    assert answer.count(b"HTTP/1.1 ") <= 1, "a second request was read out of the first"
    assert before == SERVICE.calls


def test_a_body_that_never_ends_is_cut_off(address: str) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with connected(address) as connection:
        connection.sendall(head)
        sent = 0
        try:
            while sent < 64 * LIMIT:
                connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        except OSError:
            pass
    assert sent < 32 * LIMIT


def test_a_length_over_the_limit_is_answered_and_closes(address: str) -> None:
    answer = raw(address, HEAD + b"Content-Length: 10000000000\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def form(*parts: bytes, end: bytes = b"--x--\r\n") -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end


TEXT = b'Content-Disposition: form-data; name="%d"\r\n\r\na'
FILE = b'Content-Disposition: form-data; name="image"; filename="%s"\r\n\r\n'
FORMS = {
    "many parts": form(*[TEXT % i for i in range(12_000)]),
    "many files": form(*[FILE % b"a.png" + png() for _ in range(200)]),
    "long tail of a boundary": form(FILE % b"a.png" + png(), end=b"--x" + b"-" * 900_000),
    "empty lines at the end": form(FILE % b"a.png" + png(), end=b"--x--" + b"\r\n" * 400_000),
    "long file name": form(FILE % (b"a" * 900_000) + png()),
    "no end": form(FILE % b"a.png" + png(), end=b""),
    "no name": form(b"Content-Disposition: form-data\r\n\r\na"),
    "no disposition": form(b"X: y\r\n\r\na"),
    "large text": form(b'Content-Disposition: form-data; name="prompt"\r\n\r\n' + b"a" * 1_040_000),
    "twice": form(TEXT % 1, TEXT % 1),
    "not a form": b"{}",
    "nothing": b"",
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a part without end is closed late
@pytest.mark.parametrize("name", FORMS)
def test_bad_forms_are_refused_fast(address: str, name: str) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    with little_work():
        answer = post(address + "/v1/images/edits", content=FORMS[name], headers=kind)
    assert answer.status_code in {400, 413, 422}, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 10_000, "; boundary=é"])
def test_bad_boundaries_are_refused(address: str, boundary: str) -> None:
    kind = {"Content-Type": ("multipart/form-data" + boundary).encode("latin-1")}
    answer = post(address + "/v1/images/edits", content=form(TEXT % 1), headers=kind)
    assert answer.status_code in {400, 422, 431}


def test_a_client_that_leaves_cancels_its_job(address: str) -> None:  # O06
    SERVICE.stays = 1
    with sent(address, "/v1/images/generations", {"prompt": "left alone"}):
        wait_for(lambda: any(k.job.asked.get("prompt") == "left alone" for k in SERVICE.kept.values()))
    mine = next(k for k in SERVICE.kept.values() if k.job.asked.get("prompt") == "left alone")
    wait_for(lambda: mine.job.state.ended)
    assert mine.job.state is State.CANCELLED


def test_a_client_that_leaves_a_stream_cancels_its_job_too(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen to be gone at the next sign of life."""
    monkeypatch.setattr(streamed, "ALIVE_SECONDS", 0.05)
    SERVICE.stays = 1
    body = {"prompt": "left while streaming", "stream": True, "partial_images": 1}
    with httpx.stream("POST", address + "/v1/images/generations", json=body, timeout=SECONDS) as answer:
        next(answer.iter_lines())
    mine = next(k for k in SERVICE.kept.values() if k.job.asked.get("prompt") == "left while streaming")
    wait_for(lambda: mine.job.state.ended)
    assert mine.job.state is State.CANCELLED


def test_leaving_the_events_of_a_job_leaves_the_job_alone(address: str) -> None:
    SERVICE.delay = 0.05
    job = post(address + "/v1/jobs", json={"prompt": "watched"}).json()["id"]
    with httpx.stream("GET", f"{address}/v1/jobs/{job}/events", timeout=SECONDS) as answer:
        next(answer.iter_lines())
    wait_for(lambda: SERVICE.kept[job].job.state.ended)
    assert SERVICE.kept[job].job.state is State.DONE
