"""H02, H22, H23, H26: who may call what, and what a key gives away."""

from __future__ import annotations

import base64
import logging
import statistics
import time

import pytest
from access import ACCESS, Who
from fastapi.routing import iter_route_contexts

from atelier.api.app import app
from atelier.api.keys import LONG, KeyRing, ring
from atelier.api.settings import Settings, check_address
from atelier.errors import BadInput
from atelier.runtime.jobs.job import Owner
from fakes.client import SECRETS, bearer, client, keyed
from fakes.service import FakeService, png

pytestmark = pytest.mark.anyio


def routes() -> set[tuple[str, str]]:
    """Every (method, path) of the application."""
    found = iter_route_contexts(app(FakeService(), Settings()).routes)
    return {(method, route.path) for route in found for method in route.methods if method != "HEAD"}


def test_the_table_names_every_route_and_no_other() -> None:
    assert routes() == set(ACCESS)


CALLERS = {"nobody": {}, "wrong": {"Authorization": "Bearer " + "x" * 40}, "ben": bearer("ben"), "root": bearer("root")}


def refused(who: Who, caller: str) -> int | None:
    """The status that a caller must get, or None where the guard must let him through."""
    if who == "all":
        return None
    if caller in {"nobody", "wrong"}:
        return 401
    return 403 if who == "admin" and caller == "ben" else None


@pytest.mark.parametrize("caller", CALLERS)
async def test_each_route_takes_and_refuses_whom_the_table_says(service: FakeService, caller: str) -> None:
    async with client(service, keyed()) as http:
        mine = (await http.post("/v1/jobs", json={"prompt": "a"}, headers=bearer("anna"))).json()["id"]
        for (method, path), who in ACCESS.items():
            service.calls.clear()
            url = path.replace("{job_id}", mine).replace("{image_id}", "img_of_anna").replace("{model}", "embedded")
            answer = await http.request(method, url.replace("{ticket}", "abc.def"), headers=CALLERS[caller])
            expected = refused(who, caller)
            told = f"{method} {path}: {answer.status_code} {service.calls}"
            assert answer.status_code == expected if expected else answer.status_code not in {401, 403}, told
            assert not (expected and service.calls), told
            assert answer.status_code == 404 or "{job_id}" not in path or caller != "ben", told


async def test_no_key_is_needed_where_the_server_has_none(service: FakeService) -> None:
    async with client(service) as http:
        assert (await http.post("/v1/models/unload")).status_code == 200


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


async def test_basic_reads_a_password_with_colons(service: FakeService) -> None:
    settings = Settings(keys=ring([("anna", "pass:with::colons", False)]))
    async with client(service, settings) as http:
        assert (await http.get("/v1/jobs", headers=basic("anna", "pass:with::colons"))).status_code == 200
        assert (await http.get("/v1/jobs", headers=basic("ben", "pass:with::colons"))).status_code == 401
        assert (await http.get("/v1/jobs", headers=basic("anna", "pass"))).status_code == 401


NO_CREDENTIALS = ("", "Bearer", "Bearer ", "Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Basic /w==", "Digest x", "x")


async def test_a_header_that_is_no_credential_is_refused(service: FakeService) -> None:
    async with client(service, keyed()) as http:
        for header in NO_CREDENTIALS:
            answer = await http.get("/v1/jobs", headers={"Authorization": header})
            assert answer.status_code == 401, header
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="atelier"'


async def test_wrong_keys_are_throttled_and_right_ones_that_were_seen_are_not(service: FakeService) -> None:
    async with client(service, keyed(key_failures=10)) as http:
        assert (await http.get("/v1/jobs", headers=bearer("ben"))).status_code == 200
        wrong = [await http.get("/v1/jobs", headers={"Authorization": f"Bearer wrong{i}"}) for i in range(100)]
        assert [answer.status_code for answer in wrong] == [401] * 10 + [429] * 90
        assert 1 <= int(wrong[-1].headers["Retry-After"]) <= 60
        assert (await http.get("/v1/jobs", headers=bearer("ben"))).status_code == 200


async def test_right_keys_are_never_counted_as_wrong(service: FakeService) -> None:
    async with client(service, keyed()) as http:
        for _ in range(15):
            for name in SECRETS:
                assert (await http.get("/v1/jobs", headers=bearer(name))).status_code == 200


def test_a_wrong_password_takes_as_long_as_an_unknown_user() -> None:
    keys = ring([("anna", "short", False), ("ben", "b" * LONG, False)])
    assert keys.slow
    assert not ring([("ben", "b" * LONG, False)]).slow
    times: dict[str, list[float]] = {"anna": [], "nobody": []}
    for _ in range(15):
        for name, taken in times.items():
            began = time.process_time()
            assert keys.owner("wrong", name) is None
            taken.append(time.process_time() - began)
    known, unknown = (statistics.median(taken) for taken in times.values())
    assert 0.7 < known / unknown < 1.4
    assert known > 0.005, "a password that can be guessed needs a slow hash"


def test_a_ring_keeps_no_secret() -> None:
    keys = ring([("anna", "a secret of anna's", True)])
    assert "secret" not in repr(keys)
    assert b"secret" not in keys.keys[0].digest
    assert keys.owner("a secret of anna's") == Owner("anna", admin=True)


@pytest.mark.parametrize("given", [[("", "x", False)], [("a", "", False)], [("a", "x", False), ("a", "y", False)]])
def test_a_ring_refuses_empty_and_equal_keys(given: list[tuple[str, str, bool]]) -> None:
    with pytest.raises(BadInput, match="API key"):
        ring(given)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_an_address_that_others_reach_needs_a_key(host: str) -> None:  # H03
    with pytest.raises(BadInput, match=r"--host .* needs an API key: give --api-key"):
        check_address(host, KeyRing())
    check_address(host, ring([("a", "x", False)]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_key(host: str) -> None:
    check_address(host, KeyRing())


async def test_a_key_sees_nothing_of_another(service: FakeService) -> None:  # H26
    async with client(service, keyed()) as http:
        upload = await http.post("/v1/uploads", content=png(), headers={"Content-Type": "image/png", **bearer("anna")})
        job = (await http.post("/v1/jobs", json={"prompt": "a"}, headers=bearer("anna"))).json()
        await service.ended(job["id"], Owner("anna"))
        image = (await http.get(f"/v1/jobs/{job['id']}", headers=bearer("anna"))).json()["images"][0]
        paths = [f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/events", image["url"], image["url"] + "/metadata"]
        for path in [*paths, image["url"] + "/thumbnail", image["url"] + "?format=webp"]:
            theirs = await http.get(path, headers=bearer("root"))
            absent = await http.get("/v1/jobs/job_9", headers=bearer("root"))
            assert theirs.status_code == 404
            assert without_id(theirs.json()) == without_id(absent.json())
        for method, path in (("POST", f"/v1/jobs/{job['id']}/cancel"), ("DELETE", f"/v1/jobs/{job['id']}")):
            assert (await http.request(method, path, headers=bearer("ben"))).status_code == 404
        assert (await http.get("/v1/jobs", headers=bearer("ben"))).json()["data"] == []
        used = {"prompt": "a", "image": upload.json()["id"]}
        assert (await http.post("/v1/jobs", json=used, headers=bearer("anna"))).status_code == 202
        assert (await http.post("/v1/jobs", json=used, headers=bearer("ben"))).status_code == 422


def without_id(body: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: value for name, value in body["error"].items() if name != "request_id"}


async def test_no_key_reaches_a_log_or_an_answer(  # H23
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.broken = RuntimeError("a bug")
    async with client(service, keyed()) as http:
        answers = [
            await http.get("/v1/jobs", headers=bearer("anna")),
            await http.get("/v1/jobs", headers={"Authorization": f"Bearer {SECRETS['anna']}x"}),
            await http.get("/v1/jobs", headers=basic("anna", SECRETS["anna"])),
        ]
    assert [answer.status_code for answer in answers] == [500, 401, 500]
    told = caplog.text + "".join(answer.text + str(answer.headers) for answer in answers)
    assert SECRETS["anna"] not in told
