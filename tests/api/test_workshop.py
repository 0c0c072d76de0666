"""Routes for teaching, files of models, and what the server runs with; also with input that means harm."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from atelier.api.keys import ring
from atelier.api.settings import Settings
from atelier.runtime.jobs.job import Owner
from atelier.train.teaching.presets import METHODS
from fakes.client import client
from fakes.service import FILE, WEIGHTS, FakeService, png

pytestmark = pytest.mark.anyio
TEXT = base64.b64encode(png()).decode()
KEYS = Settings(keys=ring([("anna", "a" * 40, True), ("ben", "b" * 40, False)]))
BEN = {"Authorization": f"Bearer {'b' * 40}"}
ANNA = {"Authorization": f"Bearer {'a' * 40}"}
PATHS = (
    "../up",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "..",
    ".hidden",
    "C:evil",
    "a\x00b",
    "a\nb",
    "",
    "a" * 101,
    "con|x",
    "a\x7f",
)


async def test_files_are_listed_and_told_by_their_ids(service: FakeService) -> None:
    async with client(service) as http:
        (listed,) = (await http.get("/v1/weights")).json()["data"]
        assert listed == {**WEIGHTS, "id": FILE}
        card = (await http.get(f"/v1/weights/{FILE}")).json()
        assert (card["licence"], card["metadata"]) == ("CC0", {"ss_steps": "20"})
        for other in ("f" * 24, "..", "%2e%2e%2fetc", "a" * 5000):
            answer = await http.get(f"/v1/weights/{other}")
            assert answer.status_code in {404, 422}, other
            assert "etc" not in answer.text


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("convert", {"model": "embedded", "name": "mine", "layout": "diffusers", "dtype": "fp16", "overwrite": True}),
        ("convert", {"model": "embedded", "name": "Ünicode name (2)", "vae": "kl-f8", "ema": False}),
        ("merge", {"first": "a", "second": "b", "third": "c", "name": "m", "weight": -0.5, "blocks": [0.0, 1.0]}),
        ("inspect", {"id": FILE, "check": True}),
    ],
)
async def test_jobs_on_models_take_these_fields(service: FakeService, kind: str, body: dict[str, Any]) -> None:
    async with client(service) as http:
        answer = await http.post(f"/v1/jobs/{kind}", json=body)
        assert answer.status_code == 202, answer.text
        assert (answer.json()["kind"], answer.json()["asked"]) == (kind, body)
        again = await http.post(f"/v1/jobs/{kind}", json=body, headers={"Idempotency-Key": "x"})
        same = await http.post(f"/v1/jobs/{kind}", json=body, headers={"Idempotency-Key": "x"})
        assert again.json()["id"] == same.json()["id"] != answer.json()["id"]


@pytest.mark.parametrize("name", PATHS)
async def test_a_name_is_never_a_path(service: FakeService, name: str) -> None:
    async with client(service) as http:
        for kind, body in (("convert", {"model": "a"}), ("merge", {"first": "a", "second": "b"})):
            answer = await http.post(f"/v1/jobs/{kind}", json={**body, "name": name})
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, "name"), name
    assert not service.submitted


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("convert", {"name": "a"}, "model"),
        ("convert", {"model": "a", "name": "b", "layout": "onnx"}, "layout"),
        ("convert", {"model": "a", "name": "b", "dtype": "int4"}, "dtype"),
        ("convert", {"model": "a", "name": "b", "target": "/tmp/x"}, "target"),
        ("convert", {"model": "a", "name": "b", "overwrite": "yes"}, "overwrite"),
        ("merge", {"first": "a", "second": "b", "name": "c", "weight": 11}, "weight"),
        ("merge", {"first": "a", "second": "b", "name": "c", "weight": "0.5"}, "weight"),
        ("merge", {"first": "a", "second": "b", "name": "c", "blocks": [0.5] * 129}, "blocks"),
        ("merge", {"first": ["a"], "second": "b", "name": "c"}, "first"),
        ("inspect", {"id": "../../etc/passwd"}, "id"),
        ("inspect", {"id": "/v1/models/x.safetensors"}, "id"),
        ("inspect", {"path": "/etc/passwd", "id": FILE}, "path"),
        ("caption", {"images": []}, "images"),
        ("caption", {"images": ["/etc/passwd"]}, "images.0"),
        ("caption", {"images": [TEXT], "top": 0}, "top"),
        ("caption", {"images": [TEXT], "words": "/etc"}, "words"),
        ("teach", {"images": [TEXT], "continues": "a" * 32}, "continues"),
        ("teach", {"images": [TEXT], "samples": ["a"] * 5}, "samples"),
        ("teach", {"images": [TEXT], "sample_every": 0}, "sample_every"),
    ],
)
async def test_what_is_wrong_is_named(service: FakeService, kind: str, body: dict[str, Any], field: str) -> None:
    async with client(service) as http:
        answer = await http.post(f"/v1/jobs/{kind}", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, field), answer.text
    assert not service.submitted


async def test_captions_are_asked_for_with_images(service: FakeService) -> None:
    async with client(service) as http:
        job = (await http.post("/v1/jobs/caption", json={"images": [TEXT], "before": "a photo of "})).json()
        assert job["asked"]["images"][0].startswith("upload:")
        assert job["asked"]["before"] == "a photo of "


async def test_what_there_is_to_choose_from(service: FakeService) -> None:
    async with client(service) as http:
        found = (await http.get("/v1/teaching")).json()
    assert found["presets"] == ["thing", "face", "style"]
    assert {own["name"] for own in found["methods"]} == METHODS.keys()
    makes = {own["name"]: own["makes"] for own in found["methods"]}
    assert (makes["lora"], makes["pivotal"], makes["inversion"], makes["dreambooth"]) == (
        ["lora"],
        ["lora", "word"],
        ["word"],
        ["model"],
    )


async def test_a_forecast_counts_images_and_keeps_none(service: FakeService) -> None:
    async with client(service) as http:
        said = (await http.post("/v1/teaching/forecast", json={"count": 4, "method": "dora"})).json()
        assert (said["steps"], said["seconds"], said["measured"]) == (120, 100.0, False)
        assert not service.submitted
        for body, field in (
            ({}, "count"),
            ({"count": 65}, "count"),
            ({"count": 1, "images": [TEXT]}, "images"),
            ({"count": 1, "preset": "dog"}, "preset"),
        ):
            answer = await http.post("/v1/teaching/forecast", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, field)
        answer = await http.post("/v1/teaching/forecast", json={"count": 1, "method": "lorra"})
        assert (answer.status_code, "unknown method" in answer.text) == (422, True)


async def test_a_stopped_job_goes_on_as_another_and_its_curve_is_whole(service: FakeService) -> None:
    service.hold = True
    async with client(service) as http:
        job = (await http.post("/v1/jobs/teach", json={"images": [TEXT], "steps": 40})).json()
        assert (await http.post(f"/v1/jobs/{job['id']}/resume")).status_code == 422
        await http.post(f"/v1/jobs/{job['id']}/cancel")
        answer = await http.post(f"/v1/jobs/{job['id']}/resume")
        assert answer.status_code == 202
        assert answer.json()["asked"] == {**job["asked"], "continues": job["id"]}
        course = (await http.get(f"/v1/jobs/{job['id']}/course")).json()
        assert course == {"points": [[1, 0.5], [2, 0.25]], "checks": [[2, 0.125]]}


async def test_nobody_sees_or_goes_on_with_the_training_of_another(service: FakeService) -> None:
    service.hold = True
    job = await service.submit(await _teaching(service), Owner("anna"))
    await service.cancel(job.id, Owner("anna"))
    two = Settings(keys=ring([("anna", "a" * 40, True), ("ben", "b" * 40, True)]))
    async with client(service, two) as http:
        assert (await http.get(f"/v1/jobs/{job.id}/course", headers=BEN)).status_code == 404
        assert (await http.post(f"/v1/jobs/{job.id}/resume", headers=BEN)).status_code == 404
        assert (await http.get(f"/v1/jobs/{job.id}/course", headers=ANNA)).status_code == 200


async def _teaching(service: FakeService) -> Any:
    from atelier.runtime.jobs.job import NewJob

    name = await service.upload(png(), Owner("anna"))
    return NewJob("teach", {"images": [name]})


async def test_places_and_keys_are_told_to_admins_alone_and_secrets_to_nobody(service: FakeService) -> None:
    async with client(service, KEYS) as http:
        admin = await http.get("/v1/server", headers=ANNA)
        other = await http.get("/v1/server", headers=BEN)
    said = admin.json()
    assert said["you"] == {"key": "anna", "admin": True}
    assert said["access"]["keys"] == [{"name": "anna", "admin": True}, {"name": "ben", "admin": False}]
    assert said["places"]["models"][0]["path"] == "/srv/models"
    assert said["places"]["kept"]["runs"] == 40
    assert (said["workers"][0]["device"], said["limits"]["queue"]) == ("cpu", 256)
    assert not [secret for secret in ("a" * 40, "b" * 40) if secret in admin.text]
    assert other.json()["you"] == {"key": "ben", "admin": False}
    assert (other.json()["places"], other.json()["access"]) == (None, None)
    assert "/srv" not in other.text
    assert "anna" not in other.text
    assert other.json()["workers"] == said["workers"]
