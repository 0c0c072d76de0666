"""H04-H06, H08, H12, H14, H17, H21, H24, H27: what a request passes before a route sees it."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from access import ACCESS, STUDIO

from atelier.api.errors import Problem, Refused
from atelier.api.guards.answering import turn_away
from atelier.api.guards.json_body import check
from atelier.api.guards.origin import same
from atelier.api.settings import Settings
from effort import little_work
from fakes.client import client
from fakes.service import FakeService, png

pytestmark = pytest.mark.anyio

HOSTS_TAKEN = ["localhost", "localhost:7860", "LOCALHOST", "127.0.0.1:80", "127.9.9.9", "[::1]", "[::1]:7860"]
HOSTS_REFUSED = [
    "evil.com", "127.0.0.1.nip.io", "localhost.evil", "localhost.", "evil@localhost", "localhost:abc", "localhost:1:2",
    "", "::1", "0.0.0.0", "192.168.1.2", "[::ffff:1.2.3.4]", "local host", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS_TAKEN)
async def test_loopback_names_are_answered(service: FakeService, host: str) -> None:
    async with client(service) as http:
        assert (await http.get("/healthz", headers={"Host": host})).status_code == 200


async def test_other_hosts_are_refused_before_any_route(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def looked_up(*_: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    async with client(service) as http:
        for host in HOSTS_REFUSED:
            answer = await http.get("/v1/jobs", headers={"Host": host})
            assert answer.status_code in {400, 421}, host
            assert "Host" in answer.json()["error"]["message"]
        twice = await http.get("/v1/jobs", headers=[("Host", "localhost"), ("Host", "localhost")])
        assert twice.status_code == 400
    assert service.calls == []


async def test_hosts_that_are_named_are_answered_exactly(service: FakeService) -> None:
    async with client(service, Settings(hosts=("Studio.example",))) as http:
        statuses = [
            (await http.get("/healthz", headers={"Host": host})).status_code
            for host in ("studio.example", "studio.example:7860", "a.studio.example", "studio.example.evil")
        ]
    assert statuses == [200, 200, 421, 421]


FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.com"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://a.localhost"},
    {"Origin": "file://localhost"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "anything"},
]
OURS: list[dict[str, str]] = [
    {},
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost:80", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


async def test_web_pages_of_other_origins_change_nothing(service: FakeService) -> None:
    async with client(service) as http:
        for method, path in ACCESS:
            if method != "GET":
                for headers in FOREIGN:
                    answer = await http.request(method, path, headers=headers)
                    assert answer.status_code == 403, (method, path, headers)
    assert service.calls == []


async def test_our_own_page_and_programs_that_are_no_browser_do(service: FakeService) -> None:
    async with client(service) as http:
        for headers in OURS:
            assert (await http.post("/v1/jobs", json={"prompt": "a"}, headers=headers)).status_code == 202, headers


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://localhost", "localhost", True),
        ("https://studio.example", "studio.example:443", True),
        ("https://studio.example:443", "studio.example", True),
        ("http://studio.example:8080", "Studio.example:8080", True),
        ("http://studio.example:443", "studio.example", False),
        ("https://studio.example.evil", "studio.example", False),
        ("null", "null", False),
        ("ftp://localhost", "localhost", False),
    ],
)
def test_an_origin_is_ours_by_scheme_name_and_port(origin: str, host: str, expected: bool) -> None:
    assert same(origin, host) is expected


async def test_nobody_may_read_from_another_origin_by_default(service: FakeService) -> None:
    async with client(service) as http:
        for method in ("GET", "OPTIONS"):
            headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
            answer = await http.request(method, "/v1/models", headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_named_origin_may_read_and_write_and_only_exactly_that(service: FakeService) -> None:
    async with client(service, Settings(origins=("https://app.example",))) as http:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        preflight = await http.options("/v1/jobs", headers=asked)
        assert preflight.status_code == 204
        sendable = preflight.headers["Access-Control-Allow-Headers"].split(", ")
        assert {"Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID"} <= {*sendable}
        methods = preflight.headers["Access-Control-Allow-Methods"].split(", ")
        assert {*methods} == {method for method, _ in ACCESS}
        headers = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
        answer = await http.post("/v1/jobs", json={"prompt": "a"}, headers=headers)
        assert answer.status_code == 202
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert answer.headers["Vary"] == "Origin"
        assert {"ETag", "Location"} <= {*answer.headers["Access-Control-Expose-Headers"].split(", ")}
        assert "Access-Control-Allow-Credentials" not in answer.headers
        for other in (
            "https://app.example.evil",
            "https://xapp.example",
            "http://app.example",
            "https://app.example:1",
        ):
            answer = await http.get("/v1/models", headers={"Origin": other})
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert (await http.post("/v1/jobs", json={"prompt": "a"}, headers={"Origin": other})).status_code == 403


def said(answer: httpx.Response) -> str:
    """The one line of a refusal, in either shape of errors."""
    body = answer.json()
    return body["error"]["message"] if isinstance(body["error"], dict) else body["errors"]


FORMS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", ""]


async def test_forms_that_a_page_can_send_unasked_are_refused(service: FakeService) -> None:  # H06
    special = {"/v1/images/edits", "/v1/images/variations", "/login"}
    async with client(service) as http:
        for method, path in ACCESS:
            for kind in FORMS if method != "GET" else ():
                if path in special and kind.startswith(("multipart", "application/x-www")):
                    continue
                answer = await http.request(method, path, content=b'{"prompt":"a"}', headers={"Content-Type": kind})
                assert answer.status_code == 415, (method, path, kind)
                assert "Content-Type" in said(answer)
    assert service.calls == []


CHANGES = {"submit", "upload", "cancel", "delete", "load", "unload", "refresh"}


async def test_no_get_changes_anything(service: FakeService) -> None:
    async with client(service) as http:
        job = (await http.post("/v1/jobs", json={"prompt": "a"})).json()["id"]
        service.calls.clear()
        for method, path in ACCESS:
            if method == "GET":
                url = path.replace("{job_id}", job).replace("{model}", "embedded")
                await http.get(url, params={"force": "1", "cancel": "true"})
                await http.head(url)
    assert not CHANGES & set(service.calls)
    assert service.calls


async def endless(sent: list[int], head: bytes = b"") -> AsyncIterator[bytes]:
    yield head
    while sum(sent) < 32 << 20:  # the end for a server that reads on
        sent.append(1 << 16)
        yield b" " * (1 << 16)


async def test_a_body_over_the_limit_is_refused_unread(service: FakeService) -> None:  # H12
    settings = Settings(body_limit=1 << 20)
    json_kind = {"Content-Type": "application/json"}
    async with client(service, settings) as http:
        said = await http.post("/v1/jobs", headers={**json_kind, "Content-Length": "10000000000"}, content=endless([]))
        sent: list[int] = []
        streamed = await http.post("/v1/jobs", headers=json_kind, content=endless(sent))
        image = await http.post("/v1/uploads", headers={"Content-Type": "image/png"}, content=endless([]))
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        edit = await http.post("/v1/images/edits", headers=form, content=endless([], FORM[:100]))
    for answer in (said, streamed, image, edit):
        assert answer.status_code == 413
        assert "1048576 bytes" in answer.json()["error"]["message"]
        assert answer.headers["Connection"] == "close"
    assert sum(sent) <= 2 << 20
    assert service.calls == []


async def test_a_body_at_the_limit_is_taken(service: FakeService) -> None:
    body = json.dumps({"prompt": "a"}).encode()
    async with client(service, Settings(body_limit=len(body))) as http:
        kind = {"Content-Type": "application/json"}
        assert (await http.post("/v1/jobs", content=body, headers=kind)).status_code == 202
        assert (await http.post("/v1/jobs", content=body + b" ", headers=kind)).status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, identity"])
async def test_compressed_bodies_are_refused(service: FakeService, encoding: str) -> None:
    async with client(service) as http:
        answer = await http.post("/v1/jobs", json={"prompt": "a"}, headers={"Content-Encoding": encoding})
    assert answer.status_code == 415


BAD_JSON = {
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep in an object": b'{"prompt":' + b"[" * 64 + b"]" * 64 + b"}",
    "many objects": b"[" + b"{}," * 2_000_000 + b"{}]",
    "many strings": b'""' * 2_000_000,
    "open string": b'{"prompt": "' + b'\\"' * 3_000_000,
    "digits": b'{"prompt":"a","seed":' + b"1" * 5000 + b"}",
    "NaN": b'{"prompt":"a","cfg_scale":NaN}',
    "Infinity": b'{"prompt":"a","cfg_scale":-Infinity}',
    "1e999": b'{"prompt":"a","cfg_scale":1e999}',
    "twice": b'{"prompt":"a","seed":1,"seed":2}',
    "half a character": b'{"prompt":"\\ud800"}',
    "other half": b'{"prompt":"\\udc00\\ud800"}',
    "no UTF-8": b'{"prompt":"\xff"}',
    "UTF-16": '{"prompt":"a"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"prompt":"a"}',
    "cut": b'{"prompt":"a"',
    "single quotes": b"{'prompt':'a'}",
    "true as int": b'{"prompt":"a","steps":true}',
    "text as int": b'{"prompt":"a","steps":"20"}',
    "int as text": b'{"prompt":5}',
    "list": b"[]",
    "null": b"null",
    "NUL": b'{"prompt":"a\\u0000b"}',
}


@pytest.mark.parametrize("name", BAD_JSON)
async def test_unsound_json_is_refused_fast(service: FakeService, name: str) -> None:  # H14
    async with client(service) as http:
        with little_work():
            answer = await http.post("/v1/jobs", content=BAD_JSON[name], headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]
    assert "\n" not in answer.json()["error"]["message"]
    assert service.calls == []


SOUND = [
    b"{}", b"[]", b'"a"', b"1", b"[" * 64 + b"]" * 64, b'{"a":"[[[{{{\\"[["}', b'"\\\\"', b'["\\\\",{"a":[1]}]',
    b'"\\ud83d\\ude00"', b'"\\\\ud800"', b"18446744073709551615", '"é"'.encode(), b'{"a":{"a":1},"b":{"a":1}}',
]  # fmt: skip


@pytest.mark.parametrize("body", SOUND)
def test_sound_json_passes(body: bytes) -> None:
    check(body, 64, 100)


def test_the_limits_of_json_are_exact() -> None:
    check(b"[1,2,3]", 1, 3)
    check(b'["[1,2,3],{},\\",,,\\\\"]', 1, 1)
    for body in (b"[1,2,3]", b'["a"' + b',"a"' * 2 + b"]", b'"' * 9):
        with pytest.raises(Refused, match="more than 2 values"):
            check(body, 1, 2)
    with pytest.raises(Refused, match="deeper than 1 level"):
        check(b"[[]]", 1, 9)


async def test_ranges_are_no_matter(service: FakeService) -> None:  # H17
    async with client(service) as http:
        job = (await http.post("/v1/jobs", json={"prompt": "a"})).json()["id"]
        await service.kept[job].done.wait()
        url = service.kept[job].job.images[0].id
        whole = await http.get(f"/v1/images/{url}")
        many = "bytes=" + ",".join(f"{i}-{i}" for i in range(10_000))
        for value in (
            many,
            "bytes=5-2",
            "bytes=99999999999999999999-",
            "bytes=-99999999999999999999",
            "bytes=0-0",
            "x",
        ):
            answer = await http.get(f"/v1/images/{url}", headers={"Range": value})
            assert (answer.status_code, answer.content) == (200, whole.content)
    assert whole.headers["Accept-Ranges"] == "none"


async def test_nothing_is_redirected_and_no_header_is_split(service: FakeService) -> None:  # H21
    async with client(service) as http:
        for path in ("/%2Fevil.com", "/%5Cevil.com", "/%2Fevil.com/%2e%2e", "/v1/jobs/", "/%0d%0aSet-Cookie:%20a=b"):
            answer = await http.get(path)
            assert answer.status_code == 404, (path, answer.headers)
            assert "location" not in answer.headers
            assert "set-cookie" not in answer.headers
        text = "x\r\nSet-Cookie: a=b"
        for name in ("before", "limit", "after", "webhook"):
            assert "set-cookie" not in (await http.get("/v1/jobs", params={name: text})).headers


async def test_signed_addresses_are_not_logged(service: FakeService, caplog: pytest.LogCaptureFixture) -> None:
    """Who reads the log opens no image by it."""
    caplog.set_level(logging.INFO, logger="atelier.http")
    async with client(service) as http:
        await http.get("/v1/files/c2VjcmV0.dGlja2V0")
        await http.get("/v1/images/abc")
    paths = [json.loads(record.getMessage())["path"] for record in caplog.records if record.name == "atelier.http"]
    assert paths == ["/v1/files/...", "/v1/images/abc"]


class Secretive(Exception):
    """A bug whose text must not be seen."""


async def test_a_bug_tells_nothing_but_its_number(  # H24
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    service.broken = Secretive("/srv/models/secret.safetensors")
    async with client(service) as http:
        for method, path in ACCESS:
            if path in {"/v1/images/zip", "/v1/events"}:
                continue  # its answer has begun by then, and is cut off
            body = BODIES.get(path)
            answer = await http.request(method, path, content=body, headers=kind_of(path) if body else {})
            if answer.status_code < 500:
                assert path in HARMLESS, f"{method} {path} did not call the service: {answer.text}"
                continue
            assert answer.status_code == 500
            assert said(answer) == "the server failed here; its log has the details"
            if path.startswith("/v1"):
                assert answer.json()["error"]["request_id"] == answer.headers["X-Request-Id"]
            assert answer.headers["X-Request-Id"] in caplog.text
            assert not [word for word in ("Traceback", "secret", "/srv", ".py") if word in answer.text]
    assert "secret.safetensors" in caplog.text


FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + png() + b"\r\n"
TEXT = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n'
BODIES = {
    "/v1/jobs": b'{"prompt":"a"}',
    "/v1/jobs/upscale": b'{"images":["upload:' + b"0" * 64 + b'"]}',
    "/v1/jobs/interrogate": b'{"image":"upload:' + b"0" * 64 + b'"}',
    "/v1/jobs/teach": b'{"images":["upload:' + b"0" * 64 + b'"]}',
    "/v1/jobs/annotate": b'{"controls":["canny:upload:' + b"0" * 64 + b'"]}',
    **{f"/v1/images/{verb}": b'{"ids":["a"]}' for verb in ("star", "unstar", "delete", "restore", "purge", "zip")},
    "/v1/boards/{board_id}/{change}": b'{"ids":["a"]}',
    "/v1/boards": b'{"name":"a"}',
    "/v1/boards/{board_id}": b'{"name":"a"}',
    "/v1/canvases/{canvas_id}": b'{"document":{}}',
    "/v1/prompt": b'{"prompt":"a"}',
    "/v1/jobs/caption": b'{"images":["upload:' + b"0" * 64 + b'"]}',
    "/v1/jobs/inspect": b'{"id":"000000000000000000000000"}',
    "/v1/jobs/convert": b'{"model":"embedded","name":"a"}',
    "/v1/jobs/merge": b'{"first":"a","second":"b","name":"c"}',
    "/v1/teaching/forecast": b'{"count":5}',
    "/v1/uploads": png(),
    "/v1/image-text": png(),
    "/v1/models/load": b'{"model":"embedded"}',
    "/v1/images/generations": b'{"prompt":"a"}',
    "/v1/images/edits": FORM + TEXT + b"--x--\r\n",
    "/v1/images/variations": FORM + b"--x--\r\n",
}
IMAGE = base64.b64encode(png())
BODIES |= {
    "/sdapi/v1/txt2img": b"{}",
    "/sdapi/v1/img2img": b'{"init_images":["' + IMAGE + b'"]}',
    "/sdapi/v1/extra-single-image": b'{"image":"' + IMAGE + b'"}',
    "/sdapi/v1/extra-batch-images": b'{"imageList":[{"name":"a","data":"' + IMAGE + b'"}]}',
    "/sdapi/v1/png-info": b'{"image":"' + IMAGE + b'"}',
    "/sdapi/v1/interrogate": b'{"image":"' + IMAGE + b'"}',
    "/controlnet/detect": b'{"controlnet_module":"none"}',
    "/controlnet/render_openpose_json": b'[{"people":[],"canvas_width":64,"canvas_height":64}]',
    "/sdapi/v1/options": b'{"sd_model_checkpoint":"embedded"}',
}
STATIC = {
    "/internal/ping", "/app_id", "/app_id/", "/login", "/internal/pending-tasks", "/internal/quicksettings-hint",
    "/internal/sysinfo", "/internal/progress", "/controlnet/settings", "/controlnet/version",
    "/sdapi/v1/cmd-flags", "/sdapi/v1/extensions", "/sdapi/v1/face-restorers", "/sdapi/v1/hypernetworks",
    "/sdapi/v1/script-info", "/sdapi/v1/scripts", "/sdapi/v1/create/embedding", "/sdapi/v1/create/hypernetwork",
    "/sdapi/v1/train/embedding", "/sdapi/v1/train/hypernetwork", "/sdapi/v1/server-kill", "/sdapi/v1/server-restart",
    "/sdapi/v1/server-stop",
}  # fmt: skip
"""Paths of A1111's dialect whose answer is always the same, or a refusal."""
HARMLESS = STATIC | {
    "/healthz", "/openapi.json", "/v1/capabilities", "/v1/teaching", "/v1/files/{ticket}", *STUDIO, "/v1/grid",
}  # fmt: skip
HARMLESS |= {path for _, path in ACCESS if "_id}" in path or "{digest}" in path}
"""With those whose id is refused before the service is asked: their turn comes in the test below."""


def kind_of(path: str) -> dict[str, str]:
    if path in {"/v1/images/edits", "/v1/images/variations"}:
        return {"Content-Type": "multipart/form-data; boundary=x"}
    return {"Content-Type": "image/png" if path in {"/v1/uploads", "/v1/image-text"} else "application/json"}


async def test_a_bug_behind_an_id_tells_nothing_either(service: FakeService) -> None:
    service.broken = Secretive("/srv/models/secret.safetensors")
    async with client(service) as http:
        for method, path in ACCESS:
            if "_id}" in path:
                at, body = re.sub(r"\{\w+_id\}", "a", path.replace("{change}", "add")), BODIES.get(path)
                answer = await http.request(method, at, content=body, headers=kind_of(path) if body else {})
                assert answer.status_code == 500, (method, path)
                assert "secret" not in answer.text


NASTY = ["a\r\nINFO forged line", "a\x1b[31mred", "a\u2028b", "a\x00b", "a\u0085b"]


async def test_what_clients_write_makes_no_line_of_its_own_in_the_log(  # H27
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="atelier.http")
    service.broken = None
    async with client(service) as http:
        for text in NASTY:
            await http.get(f"/v1/jobs/{quote(text)}")
            await http.post("/v1/jobs", json={"prompt": "a", "sampler": text})
            service.broken = RuntimeError(text)
            await http.post("/v1/jobs", json={"prompt": "a"})
            service.broken = None
    lines = [record.getMessage() for record in caplog.records if record.name == "atelier.http"]
    assert len(lines) == 4 * len(NASTY)
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        json.loads(line)


async def test_every_refusal_names_the_culprit(service: FakeService) -> None:
    bad = ({"prompt": "a", "steps": 10**9}, {"prompt": "a", "width": 65_536}, {"prompt": "a", "batch_size": 10**6}, {})
    async with client(service) as http:
        await http.post("/v1/jobs", json={"prompt": "a"})
        for body in bad:
            answer = await http.post("/v1/jobs", json=body)
            assert answer.status_code == 422
            assert answer.json()["error"]["param"] in answer.json()["error"]["message"]
    assert service.calls.count("submit") == 1


@pytest.mark.parametrize(("length", "read"), [("40000", 2), ("65537", 0), ("0", 0)])
async def test_a_small_body_is_read_before_it_is_turned_away(length: str, read: int) -> None:
    """A connection that is closed with bytes unread is reset, and the answer may be lost with it."""
    asked: list[str] = []
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        assert not sent, "the answer comes after the body"
        asked.append("more")
        return {"type": "http.request", "body": b"x" * 20_000, "more_body": len(asked) < 2}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-length", length.encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "headers": headers, "state": {}}
    await turn_away(scope, receive, send, Problem(415, "BadInput", "no"))
    assert len(asked) == read
    assert sent[0]["status"] == 415
