"""Requests that mean harm, or nothing: refused in A1111's shape, at once, and never with a 500."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from atelier.api.sdapi.options import DEFAULTS, FIELD_OF, PROTECTED
from atelier.api.settings import Settings
from atelier.errors import BadFile
from atelier.runtime import kept
from atelier.runtime.jobs.job import JobError, State
from effort import little_work
from fakes.a1111 import PICTURE, LikeA1111
from fakes.client import SECRETS, keyed
from fakes.live import SECONDS, live, post, sent, wait_for

SHAPE = {"error", "detail", "body", "errors"}
TEXT, IMAGE, EXTRA = "/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/extra-single-image"


@pytest.fixture(scope="module")
def service() -> LikeA1111:
    return LikeA1111()


@pytest.fixture(scope="module")
def http(service: LikeA1111) -> Generator[httpx.Client]:
    with live(service) as address, httpx.Client(base_url=address, timeout=SECONDS) as client:
        yield client


BODIES: list[tuple[str, Any, str]] = [
    (TEXT, {"steps": 10**9}, "steps"),
    (TEXT, {"steps": 0}, "steps"),
    (TEXT, {"steps": -5}, "steps"),
    (TEXT, {"width": 65536, "height": 65536}, "width"),
    (TEXT, {"width": 0}, "width"),
    (TEXT, {"n_iter": 10**6}, "n_iter 1000000: "),
    (TEXT, {"batch_size": 0}, "batch_size"),
    (TEXT, {"cfg_scale": 1e300}, "cfg_scale"),
    (TEXT, {"cfg_scale": "1e999"}, "cfg_scale"),
    (TEXT, {"seed": 10**38}, "seed"),
    (TEXT, {"prompt": "x" * 16_001}, "prompt"),
    (TEXT, {"prompt": ["a"]}, "prompt"),
    (TEXT, {"sampler_name": "x" * 999}, "Sampler not found"),
    (TEXT, {"script_name": "../../etc/passwd"}, "not found"),
    (TEXT, {"refiner_checkpoint": "/etc/passwd", "refiner_switch_at": 0.5}, "refiner_checkpoint"),
    (TEXT, {"enable_hr": True, "hr_upscaler": "/etc/passwd"}, "hr_upscaler"),
    (TEXT, {"enable_hr": True, "hr_scale": 1000}, "hr_scale 1000.0: "),
    (TEXT, {"enable_hr": True, "hr_second_pass_steps": 2000}, "hr_second_pass_steps 2000: "),
    (TEXT, {"subseed": 10**38, "subseed_strength": 0.5}, "subseed 1"),
    (TEXT, {"s_noise": 1e300}, "s_noise 1e+300: "),
    (TEXT, {"override_settings": {"CLIP_stop_at_last_layers": 10**9}}, "layers '1000000000': must be"),
    (TEXT, {"infotext": "x" * 70_000}, "infotext"),
    (TEXT, {"override_settings": {"CLIP_stop_at_last_layers": "many"}}, "CLIP_stop_at_last_layers"),
    (TEXT, {"override_settings": {"outdir_samples": "/tmp"}}, "outdir_samples"),
    (TEXT, {"override_settings": {"samples_format": "exe"}}, "samples_format"),
    (TEXT, {"override_settings": {"jpeg_quality": "high"}}, "jpeg_quality"),
    (TEXT, {"script_name": "prompts from file or textbox", "script_args": [0, 0, "start", "a" * 65_000]}, "65000"),
    (TEXT, {"script_name": "x/y/z plot", "script_args": ["Steps", "1-999", "", "Seed", "1-999", ""]}, "999 images"),
    (TEXT, {"script_name": "x/y/z plot", "script_args": [["Steps"], {}, None]}, "no axis"),
    (TEXT, [], "body"),
    (TEXT, "text", "body"),
    (TEXT, None, "body"),
    (IMAGE, {}, "Init image not found"),
    (IMAGE, {"init_images": [[PICTURE]]}, "init_images"),
    (IMAGE, {"init_images": [5]}, "init_images"),
    (IMAGE, {"init_images": ["http://127.0.0.1/a.png"]}, "init_images[0]"),
    (IMAGE, {"init_images": ["file:///etc/passwd"]}, "init_images[0]"),
    (IMAGE, {"init_images": ["/etc/passwd"]}, "init_images[0]"),
    (IMAGE, {"init_images": ["data:text/html;base64,PGI+"]}, "init_images[0]"),
    (IMAGE, {"init_images": ["data:image/png;base64"]}, "init_images[0]"),
    (IMAGE, {"init_images": ["data:image/png;base64,data:image/png;base64," + PICTURE]}, "init_images[0]"),
    (IMAGE, {"init_images": ["?" * 1000]}, "init_images[0]"),
    (IMAGE, {"init_images": ["upload:" + "0" * 64]}, "init_images[0]: there is no such upload"),
    (IMAGE, {"init_images": [PICTURE], "mask": "R0lGODdh"}, "mask"),
    (IMAGE, {"init_images": [PICTURE], "mask": {"a": 1}}, "mask"),
    (EXTRA, {"image": "", "upscaler_1": "Lanczos"}, "Image not found"),
    (EXTRA, {"image": PICTURE, "upscaler_1": "/etc/passwd"}, "upscaler_1"),
    (EXTRA, {"image": PICTURE, "upscaler_1": "Lanczos", "resize_mode": 7}, "resize_mode"),
    (EXTRA, {"image": "****", "upscaler_1": "Lanczos"}, "image"),
    ("/sdapi/v1/extra-batch-images", {"imageList": [{"data": PICTURE}] * 65}, "imageList"),
    ("/sdapi/v1/extra-batch-images", {"imageList": [{"name": "a"}]}, "imageList"),
    ("/sdapi/v1/png-info", {"image": "http://127.0.0.1/"}, "image"),
    ("/sdapi/v1/interrogate", {"image": PICTURE, "model": "no such"}, "model"),
    ("/sdapi/v1/interrogate", {"model": "clip"}, "Image not found"),
    ("/sdapi/v1/options", [1], "body"),
    ("/internal/progress", {"id_task": 5}, "id_task"),
    ("/controlnet/detect", {"controlnet_module": []}, "controlnet_module"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "culprit"), BODIES)
def test_refused_by_name(http: httpx.Client, service: LikeA1111, path: str, body: Any, culprit: str) -> None:
    before = len(service.submitted)
    with little_work():
        answer = http.post(path, json=body)
    assert 400 <= answer.status_code < 500, answer.text
    found = answer.json()
    assert set(found) == SHAPE
    assert culprit in found["errors"], found["errors"][:300]
    assert len(answer.content) < 4000
    assert len(service.submitted) == before


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"prompt": NaN}',
        '{"cfg_scale": 1e999}',
        '{"seed": ' + "9" * 5000 + "}",
        '{"prompt": "a", "prompt": "b"}',
        '{"prompt": "\\ud800"}',
        "{",
    ],
)
def test_json_that_is_none(http: httpx.Client, text: str) -> None:
    answer = http.post(TEXT, content=text, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == SHAPE


def test_base64_in_the_forms_that_clients_write(http: httpx.Client, service: LikeA1111) -> None:
    urlsafe = PICTURE.replace("+", "-").replace("/", "_").rstrip("=")
    spaced = "\n".join(PICTURE[at : at + 76] for at in range(0, len(PICTURE), 76))
    for text in (
        PICTURE,
        urlsafe,
        spaced,
        f"data:image/png;base64,{PICTURE}",
        f"data:image/png;charset=x;base64,{PICTURE}",
    ):
        assert http.post(IMAGE, json={"init_images": [text]}).status_code == 200
    names = {job.fields["image"] for job in service.submitted[-5:]}
    assert len(names) == 1


def test_bodies_that_are_no_json_and_paths_that_there_are_not(http: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = http.post(TEXT, content=b"prompt=a", headers={"Content-Type": kind})
        assert (answer.status_code, set(answer.json())) == (415, SHAPE)
    for path in ("/sdapi/v1/no-such", "/sdapi/v1/../../etc/passwd", "/controlnet/no-such", "/internal/no-such"):
        assert set(http.get(path).json()) >= SHAPE or http.get(path).status_code == 404
    answer = http.post("/login", content=b"x" * 5000, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 422


def test_what_is_not_done_here_is_refused(http: httpx.Client) -> None:
    for name in ("server-kill", "server-restart", "server-stop"):
        assert "stop its process" in http.post(f"/sdapi/v1/{name}").json()["errors"]
    for name in ("create/embedding", "create/hypernetwork", "train/embedding", "train/hypernetwork"):
        assert "atelier train" in http.post(f"/sdapi/v1/{name}", json={}).json()["errors"]


def test_only_allowed_options_change(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    path.write_text("{}")
    with (
        live(LikeA1111(), Settings(options_file=path)) as address,
        httpx.Client(base_url=address, timeout=SECONDS) as http,
    ):
        before = http.get("/sdapi/v1/options").json()
        for name in DEFAULTS:
            answer = http.post("/sdapi/v1/options", json={name: "../../etc/passwd"})
            text = isinstance(DEFAULTS[name], str | None) and name not in {*FIELD_OF, "samples_format"}
            changes = text and name not in {*PROTECTED, "sd_model_checkpoint", "sd_checkpoint_hash"}
            if name in PROTECTED:
                assert answer.status_code == 403, name
            elif changes or name == "sd_checkpoint_hash":
                assert answer.status_code == 200, name
        after = http.get("/sdapi/v1/options").json()
        assert all(after[name] == before[name] for name in {*PROTECTED, "sd_model_checkpoint", "sd_checkpoint_hash"})
        assert http.post("/sdapi/v1/options", json={"no_such_option": 1}).status_code == 422
        assert http.post("/sdapi/v1/options", json={"localization": "x" * 5000}).status_code == 422
        assert http.post("/sdapi/v1/options", json=before | {"send_seed": False}).status_code == 200
        written = json.loads(path.read_text())
        assert written["send_seed"] is False
        assert not written.keys() & {*PROTECTED, "sd_model_checkpoint"}
        assert http.get("/sdapi/v1/options").json()["send_seed"] is False


BROKEN: list[tuple[str, Any]] = [
    ("samples_format", "exe"),
    ("CLIP_stop_at_last_layers", 10**9),
    ("jpeg_quality", 1e9),
    ("jpeg_quality", -7),
    ("s_noise", 1e300),
    ("s_churn", -5),
    ("eta_noise_seed_delta", 1e30),
    ("emphasis", "loud"),
    ("sd_noise_schedule", "none such"),
    ("initial_noise_multiplier", -1),
    ("inpainting_mask_weight", 2),
]


@pytest.mark.parametrize(("name", "value"), BROKEN)
def test_an_option_that_no_request_could_be_made_with_is_not_kept(http: httpx.Client, name: str, value: object) -> None:
    answer = http.post("/sdapi/v1/options", json={name: value})
    assert answer.status_code == 422
    assert set(answer.json()) == SHAPE
    assert answer.json()["errors"].startswith(f"{name} ")
    assert http.get("/sdapi/v1/options").json()[name] == DEFAULTS[name]
    assert http.post(TEXT, json={"prompt": "a"}).status_code == 200


def test_a_kept_option_that_no_request_could_be_made_with_is_ignored_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "options.json"
    stored = {name: value for name, value in BROKEN if value != -7}
    path.write_text(json.dumps({**stored, "send_seed": False, "no such": 1, "sd_model_checkpoint": "gone"}))
    with (
        live(LikeA1111(), Settings(options_file=path)) as address,
        httpx.Client(base_url=address, timeout=SECONDS) as http,
    ):
        shown = http.get("/sdapi/v1/options").json()
        assert shown["send_seed"] is False
        assert {name: shown[name] for name in stored} == {name: DEFAULTS[name] for name in stored}
        assert http.post(TEXT, json={"prompt": "a"}).status_code == 200
    told = [record.__dict__["fields"]["reason"] for record in caplog.records if "kept option" in record.message]
    assert [reason.split()[0] for reason in told] == [*stored, "option"]
    assert "1 to 12" in told[1]


def test_options_that_cannot_be_kept_are_not_changed(tmp_path: Path) -> None:
    (tmp_path / "no_folder").write_text("")
    with live(LikeA1111(), Settings(options_file=tmp_path / "new.json")) as address:
        http = httpx.Client(base_url=address, timeout=SECONDS)
        (tmp_path / "new.json").mkdir()
        assert http.post("/sdapi/v1/options", json={"send_seed": False}).status_code >= 400
        assert http.get("/sdapi/v1/options").json()["send_seed"] is True
        http.close()


@pytest.mark.parametrize("text", ["{", "[]", "[" * 10_000])
def test_a_file_of_options_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "options.json"
    path.write_text(text)
    with pytest.raises(BadFile, match=r"options\.json"):
        kept.read(path)
    kept.write(path, {"a": 1})
    assert kept.read(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["options.json"]
    assert kept.read(tmp_path / "none.json") == {}


def test_a_client_that_goes_away_takes_its_job_with_it() -> None:
    service = LikeA1111(stays=1)
    with live(service) as address:
        with sent(address, TEXT, {"prompt": "a"}):
            wait_for(lambda: service.kept)
        wait_for(lambda: [kept.job.state for kept in service.kept.values()] == [State.CANCELLED])
        service.stays = 0
        with httpx.Client(base_url=address, timeout=SECONDS) as http:
            assert http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0
            wait_for(lambda: http.post(TEXT, json={"prompt": "a"}).status_code == 200)


def test_each_key_sees_and_stops_its_own_jobs_alone() -> None:
    service = LikeA1111(hold=True)
    auth = {name: httpx.BasicAuth(name, secret) for name, secret in SECRETS.items()}
    with live(service, keyed()) as address, httpx.Client(base_url=address, timeout=SECONDS) as http:
        waiting = threading.Thread(
            target=lambda: post(address + TEXT, json={"prompt": "a", "force_task_id": "task(2)"}, auth=auth["anna"])
        )
        waiting.start()
        wait_for(lambda: len(service.kept) == 1)
        (job,) = service.kept.values()
        own = http.get("/sdapi/v1/progress", auth=auth["anna"]).json()["state"]
        other = http.get("/sdapi/v1/progress", auth=auth["ben"]).json()["state"]
        assert (own["job"], other["job"], other["job_count"]) == (job.job.id, "", 0)
        task = {"id_task": "task(2)"}
        assert http.post("/internal/progress", json=task, auth=auth["anna"]).json()["queued"] is True
        assert http.post("/internal/progress", json=task, auth=auth["ben"]).json()["queued"] is False
        assert http.get("/internal/pending-tasks", auth=auth["anna"]).json() == {"size": 1, "tasks": ["task(2)"]}
        assert http.get("/internal/pending-tasks", auth=auth["ben"]).json() == {"size": 0, "tasks": []}
        for name in ("interrupt", "skip"):
            assert http.post(f"/sdapi/v1/{name}", auth=auth["ben"]).status_code == 200
            assert http.post(f"/sdapi/v1/{name}", auth=auth["root"]).status_code == 200
        assert not job.job.state.ended
        assert http.post("/sdapi/v1/interrupt", auth=auth["anna"]).status_code == 200
        assert job.job.state is State.CANCELLED
        waiting.join(SECONDS)
        wait_for(lambda: http.post("/internal/progress", json=task, auth=auth["anna"]).json()["completed"] is True)


def test_the_mask_of_a_loop_is_as_large_as_each_of_its_images(http: httpx.Client, service: LikeA1111) -> None:
    before = len(service.submitted)
    body = {"init_images": [PICTURE], "mask": PICTURE, "script_name": "Loopback", "script_args": [2, 0.5, "Linear", ""]}
    assert http.post(IMAGE, json=body).status_code == 200
    first, second = ([str(job.fields[name]) for name in ("image", "mask")] for job in service.submitted[before:][:2])
    assert first[0] != second[0]
    assert [first[1], second[1]] == [f"{first[0]} as large as {image}" for image, _ in (first, second)]


@pytest.mark.parametrize(
    ("path", "body", "message", "told"),
    [
        (IMAGE, {"init_images": [PICTURE]}, "image: is damaged", "init_images[0]: is damaged"),
        (IMAGE, {"init_images": [PICTURE]}, "imagery is no field", "imagery is no field"),
        (
            IMAGE,
            {"init_images": [PICTURE], "mask": PICTURE},
            f"mask upload:{'0' * 64} as large as upload:{'1' * 64}: shows nothing",
            "mask: shows nothing",
        ),
        (TEXT, {}, "clip_skip 5: is too much", "CLIP_stop_at_last_layers 5: is too much"),
        (TEXT, {"enable_hr": True}, "hires_upscale: 9x9 is more", "hr_scale: 9x9 is more"),
        (TEXT, {}, "ngms 5: is odd", "s_min_uncond 5: is odd"),
        (TEXT, {"override_settings": {"eta_ancestral": 0.5}}, "eta 0.5: is odd", "eta_ancestral 0.5: is odd"),
        (TEXT, {"eta": 0.5, "override_settings": {"eta_ancestral": 0.7}}, "eta 0.5: is odd", "eta 0.5: is odd"),
        (EXTRA, {"image": PICTURE, "upscaler_1": "Lanczos"}, "scale: 9x9 is more", "upscaling_resize: 9x9 is more"),
        (EXTRA, {"image": PICTURE, "upscaler_1": "Lanczos"}, "upload:01234567…: is damaged", "image: is damaged"),
        (
            EXTRA,
            {"image": PICTURE, "upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_resize_w": 9},
            "scale: 9x9 is more",
            "upscaling_resize_w: 9x9 is more",
        ),
    ],
)
def test_refusals_name_the_fields_that_the_client_sent(
    http: httpx.Client, service: LikeA1111, path: str, body: dict[str, Any], message: str, told: str
) -> None:
    service.failing = JobError("BadInput", message, 2)
    answer = http.post(path, json=body)
    service.failing = None
    assert (answer.status_code, answer.json()["errors"]) == (422, told)


def test_jobs_that_fail_say_why(http: httpx.Client, service: LikeA1111) -> None:
    service.failing = JobError("NotFinite", "step 3: the latent is not finite", 3)
    answer = http.post(TEXT, json={"prompt": "a"})
    service.failing = JobError("BadInput", "image: cannot be decoded", 2)
    theirs = http.post(TEXT, json={"prompt": "a"})
    service.failing = None
    assert (answer.status_code, answer.json()["error"]) == (500, "NotFinite")
    assert answer.json()["errors"] == "step 3: the latent is not finite"
    assert (theirs.status_code, theirs.json()["detail"]) == (422, "init_images[0]: cannot be decoded")


def test_a_full_queue_and_a_starting_server(http: httpx.Client, service: LikeA1111) -> None:
    service.full = True
    full = http.post(TEXT, json={"prompt": "a"})
    service.full, service.is_ready = False, False
    starting = http.post(TEXT, json={"prompt": "a"})
    service.is_ready = True
    assert (full.status_code, full.headers["Retry-After"]) == (429, "7")
    assert (starting.status_code, set(starting.json())) == (503, SHAPE)


def test_no_get_changes_anything(http: httpx.Client, service: LikeA1111) -> None:
    changing = {"submit", "cancel", "load", "unload", "refresh", "upload", "delete"}
    before = list(service.calls)
    paths = http.get("/openapi.json").json()["paths"]
    read = [
        path
        for path, item in paths.items()
        if "get" in item and path.startswith(("/sdapi", "/controlnet", "/internal"))
    ]
    assert len(read) > 25
    for path in read:
        assert http.get(path).status_code == 200, path
    assert not changing & set(service.calls[len(before) :])
    for path, item in paths.items():
        if path.startswith("/sdapi") and "get" not in item:
            assert http.get(path).status_code == 405
