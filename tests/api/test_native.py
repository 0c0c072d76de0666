"""The native API: jobs, events, images, uploads, and what there is (also C04, H09, H10, H20)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from atelier.api.settings import Settings
from atelier.request.table import FIELDS
from atelier.runtime.jobs.job import Owner, State
from fakes.client import bearer, client, keyed
from fakes.live import live, post, wait_for
from fakes.service import FakeService, png

pytestmark = pytest.mark.anyio
PNG = {"Content-Type": "image/png"}


async def ended(service: FakeService, http: httpx.AsyncClient, **fields: object) -> dict[str, object]:
    """A job that is done, as the API tells it."""
    job = (await http.post("/v1/jobs", json={"prompt": "a", **fields})).json()
    await service.ended(job["id"], Owner())
    return (await http.get(f"/v1/jobs/{job['id']}")).json()


async def test_a_job_from_asking_to_deleting(service: FakeService) -> None:
    async with client(service) as http:
        asked = {"prompt": "a red apple", "seed": 5, "batch_size": 2, "hires_resize": [128, 64], "regions": []}
        answer = await http.post("/v1/jobs", json=asked)
        job = answer.json()
        assert answer.status_code == 202
        assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
        assert (job["state"], job["asked"], job["kind"]) == ("queued", asked, "generate")
        await service.ended(job["id"], Owner())
        done = (await http.get(answer.headers["Location"])).json()
        assert (done["state"], done["attempt"], done["error"], done["progress"]["share"]) == ("done", 1, None, 1.0)
        assert [image["seed"] for image in done["images"]] == [5, 6]
        image = await http.get(done["images"][1]["url"])
        assert image.content.startswith(b"\x89PNG")
        assert (await http.delete(answer.headers["Location"])).status_code == 204
        assert (await http.get(answer.headers["Location"])).status_code == 404
        assert (await http.get(done["images"][1]["url"])).status_code == 404


async def test_every_field_of_the_table_but_output_can_be_asked(service: FakeService) -> None:
    async with client(service) as http:
        schema = (await http.get("/v1/capabilities")).json()["request"]
    assert set(schema["properties"]) == set(FIELDS) - {"output"}
    assert schema["required"] == ["prompt"]
    assert schema["additionalProperties"] is False
    steps = schema["properties"]["steps"]
    assert steps["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 1000}
    assert steps["description"] == "Steps of the sampler. Unless given: the model's."
    assert schema["properties"]["width"]["anyOf"][0]["multipleOf"] == 8
    assert schema["properties"]["batch_size"]["default"] == 1


def test_the_limits_of_every_number_are_those_of_the_table() -> None:
    from pydantic import ValidationError

    from atelier.api.v1.generate import IMAGES, GenerateFields
    from atelier.request.groups import PROMPTS

    seen = 0
    for name, field in FIELDS.items():
        if field.limits is None or name == "output" or field.kind not in {"int", "float"}:
            continue
        low, high = field.limits.low, field.limits.high
        step = 8 if name in {"width", "height", "view_width", "view_height"} else 1
        for good in (low, high):
            assert getattr(GenerateFields.model_validate({"prompt": "a", name: good}), name) == good
        for bad in (low - step, high + step, True, str(low), None if field.default is not None else "", [low]):
            with pytest.raises(ValidationError):
                GenerateFields.model_validate({"prompt": "a", name: bad})
        seen += 1
    assert seen > 60
    for name in PROMPTS:
        GenerateFields.model_validate({"prompt": "a", name: "a" * 16_000})
        with pytest.raises(ValidationError):
            GenerateFields.model_validate({"prompt": "a", name: "a" * 16_001})
    for name in IMAGES:
        GenerateFields.model_validate({"prompt": "a", name: "a" * 100_000})


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "prompt is missing: give it"),
        ({"prompt": "a", "stepz": 1}, "stepz", "unknown field 'stepz': did you mean steps?"),
        ({"prompt": "a", **{f"x{n}": 1 for n in range(1000)}}, "x0", "unknown field 'x0': leave it out"),
        ({"prompt": "a", "regions": [1] * 1000}, "regions.0", "regions.0: input should be a valid string"),
        (
            {"prompt": "a", "styles": ["a"] * 257},
            "styles",
            "styles: tuple should have at most 256 items after validation, not 257",
        ),
        ({"prompt": "a", "output": "/tmp/x.png"}, "output", "unknown field 'output': leave it out"),
        ({"prompt": "a", "steps": 0}, "steps", "steps must be a whole number from 1 to 1000"),
        ({"prompt": "a", "steps": 1.5}, "steps", "steps must be a whole number from 1 to 1000"),
        ({"prompt": "a", "cfg_scale": "7"}, "cfg_scale", "cfg_scale must be a number from 0 to 100"),
        ({"prompt": "a", "width": 65}, "width", "width must be a whole number from 64 to 4096, a multiple of 8"),
        ({"prompt": "a", "seed": 2**64}, "seed", "seed must be a whole number from -1 to 18446744073709551615"),
        ({"prompt": "a" * 16_001}, "prompt", "prompt: string should have at most 16000 characters"),
        ({"prompt": "a", "image": "/etc/passwd"}, "image", "image is no PNG, JPEG or WebP: convert it to one of them"),
        ({"prompt": "a", "mask": "alpha2"}, "mask", "mask is no PNG, JPEG or WebP: convert it to one of them"),
        ({"prompt": "a", "sampler": " "}, "sampler", "sampler is empty: say which, or leave it out"),
        ({"prompt": "a\0b"}, "prompt", r"prompt holds '\x00' at position 1, which is no character: take it out"),
        ({"prompt": "a", "tile": "z"}, "tile", "tile: input should be 'none', 'x', 'y' or 'xy'"),
        ({"prompt": "a", "model": "embeded"}, "model", "unknown model 'embeded': did you mean embedded?"),
    ],
)
async def test_a_refusal_names_the_field_and_the_limit(
    service: FakeService, body: dict[str, object], param: str, message: str
) -> None:
    async with client(service) as http:
        answer = await http.post("/v1/jobs", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["message"]) == (422, param, message)
    assert set(error) == {"message", "type", "param", "code", "request_id"}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("unknown sampler 'nix': did you mean UniPC?", "sampler"),
        ("unknown field 'stepz': did you mean steps?", "stepz"),
        ("unknown upscaler 'x': choose one of Lanczos", None),
        ("hires_upscaler '/x' is not there: choose one of Latent", "hires_upscaler"),
        ("steps: too many", "steps"),
        ("the queue is full", None),
        ("", None),
    ],
)
def test_the_field_is_found_in_a_message(message: str, field: str | None) -> None:
    from atelier.api.errors import field_in

    assert field_in(message) == field


def test_an_error_that_knows_its_field_names_it() -> None:
    from atelier.api.errors import problem_of
    from atelier.errors import BadFile, UnknownName, about

    for error in (BadFile("/models/photo.safetensors", "is damaged"), UnknownName("VAE", "x", ())):
        with pytest.raises(type(error)) as raised, about("model"), about("vae"):
            raise error
        assert problem_of(raised.value).field == "vae"
    assert problem_of(UnknownName("VAE", "x", ())).message == "unknown VAE 'x': there is none here"


async def test_images_come_as_uploads_or_in_base64(service: FakeService) -> None:
    import base64

    async with client(service) as http:
        upload = await http.post("/v1/uploads", content=png(), headers=PNG)
        assert upload.status_code == 201
        name = upload.json()["id"]
        text = "data:image/png;base64," + base64.b64encode(png()).decode()
        for image in (name, text):
            answer = await http.post("/v1/jobs", json={"prompt": "a", "image": image, "mask": "alpha"})
            assert answer.json()["asked"] == {"prompt": "a", "image": name, "mask": "alpha"}
        missing = await http.post("/v1/jobs", json={"prompt": "a", "image": "upload:" + "0" * 64})
        assert missing.status_code == 422
        assert missing.json()["error"]["param"] == "image"
        assert missing.json()["error"]["message"].startswith("image: there is no such upload, or it is not yours")


@pytest.mark.parametrize(
    "data", [b"", b"<svg/>", b"%PDF-1.4", b"GIF89a", b"RIFF1234WAVE", b"BM1234", b"<html>", b"II*\0"]
)
async def test_other_files_are_no_uploads(service: FakeService, data: bytes) -> None:  # H20
    async with client(service) as http:
        for path in ("/v1/uploads", "/v1/image-text"):
            assert (await http.post(path, content=data, headers=PNG)).status_code == 422
            kind = {"Content-Type": "image/svg+xml"}
            assert (await http.post(path, content=data or b"a", headers=kind)).status_code == 415
    assert service.calls == []


async def test_an_upload_over_the_services_limit_is_413(service: FakeService) -> None:
    service.upload_limit = 10
    async with client(service) as http:
        answer = await http.post("/v1/uploads", content=png(), headers=PNG)
    assert answer.status_code == 413
    assert "at most 10 are taken" in answer.json()["error"]["message"]


async def test_the_settings_of_an_image_are_read(service: FakeService) -> None:
    async with client(service) as http:
        answer = await http.post("/v1/image-text", content=png("a red apple\nSteps: 20", size=(20, 10)), headers=PNG)
    told = answer.json()
    assert (told["width"], told["height"], told["format"]) == (20, 10, "png")
    assert told["infotext"] == "a red apple\nSteps: 20"
    assert told["fields"] == {"prompt": "a red apple", "steps": 20}


async def test_an_image_in_other_forms(service: FakeService) -> None:
    async with client(service) as http:
        image = (await ended(service, http, seed=3))["images"][0]  # type: ignore[index]
        file = await http.get(image["url"])
        assert file.headers["Content-Type"] == "image/png"
        assert file.headers["Content-Disposition"] == f'inline; filename="{image["id"]}.png"'
        assert file.headers["ETag"] == f'"{image["sha256"]}"'
        assert file.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in file.headers["Content-Security-Policy"]
        again = await http.get(image["url"], headers={"If-None-Match": file.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        webp = await http.get(image["url"], params={"format": "webp"})
        assert webp.content[8:12] == b"WEBP"
        assert webp.headers["ETag"] != file.headers["ETag"]
        assert (await http.get(image["url"] + "/metadata")).json() == image
        assert (await http.get(image["url"] + "/thumbnail")).headers["Content-Type"] == "image/jpeg"
        assert (await http.get(image["url"], params={"format": "gif"})).status_code == 422


async def test_jobs_are_listed_page_by_page(service: FakeService) -> None:
    async with client(service) as http:
        made = [(await http.post("/v1/jobs", json={"prompt": str(i)})).json()["id"] for i in range(5)]
        first = (await http.get("/v1/jobs", params={"limit": 2})).json()
        assert ([job["id"] for job in first["data"]], first["has_more"]) == (made[:2:-1], True)
        rest = (await http.get("/v1/jobs", params={"limit": 3, "before": made[3]})).json()
        assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (made[2::-1], False)
        for limit in ("0", "101", "x", "1e3"):
            assert (await http.get("/v1/jobs", params={"limit": limit})).status_code == 422


async def test_cancelling_twice_is_no_error(service: FakeService) -> None:
    service.hold = True
    async with client(service) as http:
        job = (await http.post("/v1/jobs", json={"prompt": "a"})).json()["id"]
        for _ in range(2):
            answer = await http.post(f"/v1/jobs/{job}/cancel")
            assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")


async def test_deleting_a_job_that_runs_cancels_it_first(service: FakeService) -> None:
    service.hold = True
    async with client(service) as http:
        job = (await http.post("/v1/jobs", json={"prompt": "a"})).json()["id"]
        assert (await http.delete(f"/v1/jobs/{job}")).status_code == 204
    assert service.calls.index("cancel") < service.calls.index("delete")


async def test_an_idempotency_key_gives_one_job(service: FakeService) -> None:
    async with client(service, keyed()) as http:
        ids = [
            (await http.post("/v1/jobs", json={"prompt": "a"}, headers={"Idempotency-Key": "k", **bearer(who)})).json()[
                "id"
            ]
            for who in ("anna", "anna", "ben")
        ]
        other = await http.post("/v1/jobs", json={"prompt": "b"}, headers={"Idempotency-Key": "k", **bearer("anna")})
    assert ids[0] == ids[1] != ids[2]
    assert (other.status_code, other.json()["error"]["param"]) == (422, "Idempotency-Key")


async def test_priority_above_the_usual_is_for_admins(service: FakeService) -> None:
    async with client(service, keyed()) as http:
        for who, asked in (("anna", 0), ("anna", -3), ("root", 5)):
            params = {"priority": asked, "timeout": 60}
            await http.post("/v1/jobs", json={"prompt": "a"}, params=params, headers=bearer(who))
            assert (service.submitted[-1].priority, service.submitted[-1].timeout) == (asked, 60)
        refused = await http.post("/v1/jobs", json={"prompt": "a"}, params={"priority": 1}, headers=bearer("anna"))
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (403, "priority", "Forbidden")
    assert len(service.submitted) == 3


async def test_parameters_that_mean_nothing_are_refused_by_name(service: FakeService) -> None:
    async with client(service) as http:
        answer = await http.post("/v1/jobs?steps=3&timeout=5&prioritty=1", json={"prompt": "a"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, "prioritty")
    assert error["message"] == (
        "unknown query parameter 'prioritty', 'steps': they are priority, timeout, webhook; fields go into the body"
    )
    assert service.submitted == []


@pytest.mark.parametrize(("full", "ready", "status"), [(True, True, 429), (False, False, 503)])
async def test_a_server_that_takes_no_more_says_when_to_come_back(
    service: FakeService, full: bool, ready: bool, status: int
) -> None:
    service.full, service.is_ready = full, ready
    async with client(service) as http:
        answer = await http.post("/v1/jobs", json={"prompt": "a"})
    assert answer.status_code == status
    assert int(answer.headers["Retry-After"]) == (7 if full else 2)


async def test_other_kinds_of_jobs(service: FakeService) -> None:
    async with client(service) as http:
        text = base64.b64encode(png()).decode()
        body = {"images": [text], "upscaler": "R-ESRGAN 4x+", "scale": 4.0}
        job = (await http.post("/v1/jobs/upscale", json=body)).json()
        assert (job["kind"], job["asked"]["scale"], job["asked"]["upscaler"]) == ("upscale", 4.0, "R-ESRGAN 4x+")
        assert job["asked"]["images"][0].startswith("upload:")
        asked = (await http.post("/v1/jobs/interrogate", json={"image": text, "top": 2})).json()
        assert asked["asked"]["top"] == 2
        await service.ended(asked["id"], Owner())
        assert (await http.get(f"/v1/jobs/{asked['id']}")).json()["result"] == {"caption": "a red square"}
        for bad in (
            {},
            {"images": []},
            {"images": ["http://a/b"]},
            {"images": [text], "scale": 0},
            {"images": [text] * 65},
        ):
            answer = await http.post("/v1/jobs/upscale", json=bad)
            assert (answer.status_code, answer.json()["error"]["param"] is None) == (422, False), bad


async def test_a_job_that_teaches_takes_its_images_as_uploads(service: FakeService) -> None:
    text = base64.b64encode(png()).decode()
    body = {"images": [text, text], "captions": ["a zwx", "a zwx"], "method": "dora", "word": "zwx", "steps": 40}
    async with client(service) as http:
        job = (await http.post("/v1/jobs/teach", json=body)).json()
        assert job["kind"] == "teach"
        images = job["asked"].pop("images")
        assert job["asked"] == {"captions": ["a zwx", "a zwx"], "method": "dora", "word": "zwx", "steps": 40}
        assert len(images) == 2
        assert all(image.startswith("upload:") for image in images)
        for bad in (
            {},
            {"images": []},
            {"images": ["http://a/b"]},
            {"images": [text], "steps": 0},
            {"images": [text], "base": "x"},
        ):
            answer = await http.post("/v1/jobs/teach", json=bad)
            assert (answer.status_code, answer.json()["error"]["param"] is None) == (422, False), bad


async def test_a_method_that_a_path_has_not_is_405_with_those_it_has(service: FakeService) -> None:
    async with client(service) as http:
        for path, methods in {
            "/v1/jobs": "GET, POST",
            "/v1/jobs/a": "DELETE, GET",
            "/v1/models/refresh": "GET, POST",
            "/v1/images/generations": "GET, POST",
            "/sw.js": "GET",
        }.items():
            answer = await http.patch(path)
            assert answer.status_code == 405
            assert set(answer.headers["Allow"].split(", ")) <= set(methods.split(", ")), path
            assert answer.json()["error"]["code"] == "MethodNotAllowed"


UNKNOWN = [
    "job_9", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%252e%252e%252f", "..%5c..%5cwindows", "%00", "a%00b",
    "C:%5Cwindows", "%5C%5Cserver%5Cshare", "%2fetc%2fpasswd", "a" * 5000, "%ff", "%F0%9F%98%80", "a.png", " ", "*",
    "upload:" + "0" * 64, "file:%2f%2f%2fetc%2fpasswd", "con", "a;b", "a'--", "$(id)", "%0d%0a",
]  # fmt: skip
WHERE = [
    "/v1/jobs/{}",
    "/v1/jobs/{}/events",
    "/v1/images/{}",
    "/v1/images/{}/thumbnail",
    "/v1/files/{}",
    "/v1/models/{}",
]


async def test_what_is_no_id_is_absent_like_everything_that_is_not_there(service: FakeService) -> None:  # H09, C04
    bodies: set[str] = set()
    async with client(service) as http:
        for where in WHERE:
            for text in UNKNOWN:
                if where == "/v1/models/{}" and text in {"..", "%2e%2e"}:
                    continue
                answer = await http.get(where.format(text))
                if answer.status_code == 404:
                    error = answer.json()["error"]
                    bodies.add(json.dumps({**error, "request_id": ""}))
                else:
                    assert text in {"..", "%2e%2e"}, (where, text, answer.status_code)
    assert len(bodies) == 1
    assert "nothing is there" in bodies.pop()


def lines(text: str) -> list[dict[str, str]]:
    """The events of a stream."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


async def test_events_tell_all_and_go_on_behind_the_last_that_was_seen(service: FakeService) -> None:
    async with client(service) as http:
        job = (await ended(service, http))["id"]
        whole = lines((await http.get(f"/v1/jobs/{job}/events")).text)
        assert [event["id"] for event in whole] == [str(i + 1) for i in range(len(whole))]
        assert {event["event"] for event in whole} == {"state", "progress", "preview", "image"}
        assert json.loads(whole[-1]["data"])["state"] == "done"
        rest = lines((await http.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "3"})).text)
        assert rest == whole[3:]
        assert lines((await http.get(f"/v1/jobs/{job}/events", params={"after": 3})).text) == rest
        for bad in ("x", "-1", "1.5", "9" * 30):
            assert (await http.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": bad})).status_code == 422


async def test_a_quiet_stream_gives_signs_of_life() -> None:
    from atelier.api.v1.events import paced

    heard = asyncio.Event()

    async def quiet() -> AsyncIterator[int]:
        for item in (1, 2):
            await heard.wait()
            heard.clear()
            yield item

    found: list[int | None] = []
    async for item in paced(quiet(), 0.001):
        if found[-1:] != [item]:
            found.append(item)
        if item is None:
            heard.set()
    assert found == [None, 1, None, 2]
    closed = paced(quiet(), 0.001)
    assert await anext(closed) is None
    await closed.aclose()  # type: ignore[attr-defined]


async def test_what_there_is(service: FakeService) -> None:
    async with client(service) as http:
        for path, names in {
            "samplers": ["Euler a", "DPM++ 2M"],
            "schedulers": ["automatic", "karras"],
            "upscalers": ["None", "Lanczos", "R-ESRGAN 4x+", "Latent", "Latent (nearest)"],
            "autoencoders": ["kl-f8"],
            "adapters": ["detail"],
            "embeddings": ["easynegative"],
            "styles": ["anime"],
        }.items():
            assert [entry["name"] for entry in (await http.get(f"/v1/{path}")).json()["data"]] == names
        await http.post("/v1/models/load", json={"model": "animagine-xl"})
        models = (await http.get("/v1/models")).json()["data"]
        assert [(m["id"], m["default"], m["loaded"]) for m in models] == [
            ("embedded", False, False),
            ("animagine-xl", True, True),
        ]
        await http.post("/v1/models/unload")
        assert not any(m["loaded"] for m in (await http.get("/v1/models")).json()["data"])
        assert (await http.post("/v1/models/load", json={"model": "../x"})).status_code in {400, 422}


async def test_metrics_count_routes_and_never_what_clients_write(service: FakeService) -> None:
    async with client(service) as http:
        await ended(service, http)
        await http.get("/v1/jobs/made-up")
        await http.get("/made/up")
        await http.request("BREW", "/made/up")
        text = (await http.get("/metrics")).text
    assert 'atelier_http_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0' in text
    assert 'atelier_http_requests_total{method="other",route="none",status="404"} 1.0' in text
    assert 'atelier_jobs{state="done"} 1.0' in text
    assert "atelier_ready 1.0" in text
    assert "made" not in text


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://hooks.example/atelier", True),
        ("https://hooks.example/atelier/job", True),
        ("https://hooks.example/atelierx", False),
        ("https://hooks.example/atelier/../admin", False),
        ("https://hooks.example.evil/atelier", False),
        ("https://hooks.example:444/atelier", False),
        ("http://hooks.example/atelier", False),
        ("https://user@hooks.example/atelier", False),
        ("file:///etc/passwd", False),
        ("https://[", False),
        ("", False),
    ],
)
async def test_webhooks_are_called_at_named_addresses_alone(service: FakeService, url: str, fits: bool) -> None:
    async with client(service, Settings(webhooks=("https://hooks.example/atelier",))) as http:
        service.hold = True
        answer = await http.post("/v1/jobs", json={"prompt": "a"}, params={"webhook": url})
    assert answer.status_code == (202 if fits else 422)
    if not fits:
        assert answer.json()["error"]["param"] == "webhook"


async def test_the_address_of_a_webhook_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    from atelier.api.v1 import webhooks

    assert not await webhooks._posted("http://127.0.0.1:1/services/T0/secret?key=secret", "{}")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "atelier.http"]
    assert json.loads(line) == {"webhook": "127.0.0.1:1", "error": "ConnectError"}


def test_a_webhook_gets_the_ended_job_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import http.server
    import threading

    from atelier.api.v1 import webhooks

    got: list[dict[str, object]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if len(got) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr(webhooks, "PAUSES", (0.01, 0.01))
    with http.server.HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/hook"
        with live(FakeService(), Settings(webhooks=(address,))) as url:
            job = post(url + "/v1/jobs", json={"prompt": "a"}, params={"webhook": address}).json()
            wait_for(lambda: len(got) == 2)
        server.shutdown()
    assert [(told["id"], told["state"]) for told in got] == [(job["id"], State.DONE)] * 2
    told = [json.loads(record.getMessage()) for record in caplog.records if '"webhook"' in record.getMessage()]
    assert told == [{"webhook": f"127.0.0.1:{server.server_port}", "status": 500}]
