"""Canvases over HTTP, and hints as jobs."""

from __future__ import annotations

import pytest

from atelier.runtime.jobs.job import Owner
from fakes.client import bearer, client, keyed
from fakes.service import FakeService, png

pytestmark = pytest.mark.anyio


async def test_a_canvas_from_making_to_deleting(service: FakeService) -> None:
    async with client(service) as http:
        document = {"name": "Hills", "layers": [{"x": 1.5}]}
        made = await http.put("/v1/canvases/hills", json=document)
        assert (made.status_code, made.headers["ETag"], made.json()["revision"]) == (200, '"1"', 1)
        read = await http.get("/v1/canvases/hills")
        assert read.headers["ETag"] == '"1"'
        assert read.json() == {
            "id": "hills", "name": "Hills", "revision": 1, "created": 1.0, "changed": 2.0, "document": document,
        }  # fmt: skip
        listed = (await http.get("/v1/canvases")).json()["data"]
        assert [(entry["id"], entry["name"], "document" in entry) for entry in listed] == [("hills", "Hills", False)]
        assert (await http.delete("/v1/canvases/hills")).status_code == 204
        assert (await http.get("/v1/canvases/hills")).status_code == 404
        assert (await http.delete("/v1/canvases/hills")).status_code == 404


async def test_a_canvas_that_was_changed_elsewhere_is_not_replaced(service: FakeService) -> None:
    async with client(service) as http:
        assert (await http.put("/v1/canvases/a", json={}, headers={"If-Match": '"0"'})).status_code == 200
        stale = await http.put("/v1/canvases/a", json={"x": 1}, headers={"If-Match": '"0"'})
        assert (stale.status_code, stale.json()["error"]["code"]) == (412, "Changed")
        assert "at revision 1" in stale.json()["error"]["message"]
        again = await http.put("/v1/canvases/a", json={"x": 1}, headers={"If-Match": '"1"'})
        assert (again.status_code, again.headers["ETag"]) == (200, '"2"')
        assert (await http.put("/v1/canvases/a", json={}, headers={"If-Match": "1"})).status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"x": "1" * 2000}, 413, "TooLarge"),
        ({"x": "upload:0"}, 422, "UnknownUpload"),
        ([1], 422, "BadInput"),
        ("a", 422, "BadInput"),
    ],
)
async def test_what_is_no_canvas_is_refused(service: FakeService, body: object, status: int, kind: str) -> None:
    async with client(service) as http:
        answer = await http.put("/v1/canvases/a", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, kind)


async def test_names_of_canvases_are_no_paths(service: FakeService) -> None:
    async with client(service) as http:
        for name in ("a.b", "a%2Fb", "ä", "a" * 65):
            assert (await http.put(f"/v1/canvases/{name}", json={})).status_code == 404


async def test_keys_have_canvases_of_their_own(service: FakeService) -> None:
    async with client(service, keyed()) as http:
        assert (await http.put("/v1/canvases/a", json={}, headers=bearer("anna"))).status_code == 200
        assert (await http.get("/v1/canvases/a", headers=bearer("ben"))).status_code == 404
        assert (await http.get("/v1/canvases", headers=bearer("ben"))).json()["data"] == []


async def test_hints_are_asked_for_as_a_job(service: FakeService) -> None:
    async with client(service) as http:
        name = (await http.post("/v1/uploads", content=png(), headers={"Content-Type": "image/png"})).json()["id"]
        body = {"controls": [f"canny:{name} low=50"], "width": 64, "height": 32}
        answer = await http.post("/v1/jobs/annotate", json=body)
        assert (answer.status_code, answer.json()["kind"], answer.json()["asked"]) == (202, "annotate", body)
        await service.ended(answer.json()["id"], Owner())
        lost = await http.post("/v1/jobs/annotate", json={"controls": ["canny:upload:" + "0" * 64]})
        assert (lost.status_code, lost.json()["error"]["code"]) == (422, "UnknownUpload")
        many = [f"canny:{name}"] * 65
        bodies: list[dict[str, object]] = [
            {},
            {"controls": [0]},
            {"controls": many},
            {"controls": ["canny"], "width": 0},
        ]
        for bad in bodies:
            assert (await http.post("/v1/jobs/annotate", json=bad)).status_code == 422, bad
