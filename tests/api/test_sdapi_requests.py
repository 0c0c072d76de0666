"""Calls that real clients make, each with what it means, written by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from atelier.request.table import request_of
from facts import FACTS
from fakes.a1111 import PICTURE, LikeA1111
from fakes.live import SECONDS, live

LIST = FACTS / "requests.json"
PREFIXES = ("/sdapi/", "/controlnet/", "/login")
SIZE = {"width": 512, "height": 512, "batch_size": 1, "batch_count": 1}
TEXT = {"rng": "nv", "cfg_scale": 7.0, **SIZE}
TEST = {**TEXT, "prompt": "example prompt", "steps": 3, "width": 64, "height": 64, "eta": 0.0}
UNIT = {**TEXT, "prompt": "(masterpiece: 1.3), (highres: 1.3), best quality,", "steps": 10, "height": 768, "seed": 42}
IMAGE = {"denoising_strength": 0.75, "resize_mode": "stretch", "image": "IMAGE"}

MEANS: dict[int, dict[str, Any]] = {
    0: {
        **TEXT, "prompt": "cute squirrel", "negative_prompt": "ugly, out of frame", "styles": ["anime"], "seed": 1003,
        "steps": 20, "sampler": "Euler a", "eta": 1.0,
    },
    1: {
        **TEXT, "prompt": "cute squirrel", "seed": 55, "steps": 20, "sampler": "Euler a", "eta": 1.0,
        "hires_resize": [1536, 1024], "hires_upscaler": "Latent", "hires_steps": 20, "denoising_strength": 0.4,
    },
    9: {**TEST, "sampler": "Euler a"},
    11: {**TEST, "sampler": "Euler a", **IMAGE},
    12: {
        **TEST, "sampler": "Euler a", **IMAGE, "sd_upscale_factor": 2.0, "sd_upscale_overlap": 8,
        "sd_upscale_upscaler": "Lanczos",
    },
    23: {**UNIT, "sampler": "Euler a"},
    38: {
        **TEXT, "prompt": "best quality, absurdres, aesthetic,", "negative_prompt": "lowres, bad anatomy", "steps": 20,
        "sampler": "Euler a", "scheduler": "normal",
    },
    53: {
        **TEXT, "prompt": "(Masterpiece:1.1), detailed, intricate, colorful(a cat:1)", "steps": 32,
        "negative_prompt": "(worst quality, low quality:1.3)", "sampler": "DPM++ 2M",
    },
    55: {
        **TEXT, "prompt": "p", "negative_prompt": "n", "cfg_scale": 4.5, "steps": 22, "width": 1024, "height": 1024,
        "sampler": "Euler",
    },
    56: {**TEXT, "prompt": "p", "steps": 30, "sampler": "Euler a", "seed": 1234},
    57: {
        **TEXT, "prompt": "p", "steps": 30, "sampler": "Euler", "hires_upscale": 1.0, "hires_upscaler": "Latent",
        "hires_steps": 15, "denoising_strength": 0.75,
    },
    64: {**TEXT, "prompt": "p", "steps": 25, "sampler": "Euler"},
    65: {**TEXT, "prompt": "p", "steps": 25, "sampler": "Euler"},
    67: {
        **TEXT, "prompt": "p", "negative_prompt": "n", "steps": 20, "sampler": "DPM++ 2M", "scheduler": "karras",
        "model": "model", **IMAGE, "mask": "MASK", "mask_blur": 4.0, "masked_content": "fill",
        "inpaint_area": "Only masked", "masked_area_padding": 32,
    },
    68: {**TEXT, "prompt": "a cute cat", "steps": 1, "cfg_scale": 1.0, "sampler": "Euler"},
}  # fmt: skip
"""What a job holds, by the number of the call."""
CANNY = "canny:IMAGE:1 model=control_v11p_sd15_canny annotator=canny"
UNITS: dict[int, dict[str, Any]] = {
    2: {
        "controls": [
            "canny:IMAGE:1 model=control_v11p_sd15_canny annotator=canny resize=fill resolution=512 low=64 high=64"
        ]
    },
    3: {
        "controls": [
            f"{CANNY} resize=fill resolution=512 low=64 high=64",
            "depth:IMAGE:0.5 model=control_v11f1p_sd15_depth annotator=depth_midas resize=fill resolution=512",
        ]
    },
    22: {"controls": ["canny::1 model=control_v11p_sd15_canny annotator=canny"]},
    24: {"controls": [CANNY] * 2},
    25: {"controls": [CANNY]},
    26: {"references": ["IMAGE:1 model=ip-adapter-plus-face_sd15"]},
    27: {"references": ["IMAGE:1 model=ip-adapter-full-face_sd15"]},
    28: {"references": ["IMAGE:1 model=ip-adapter_sd15"]},
    61: {"controls": [f"{CANNY} resolution=512 low=100 high=200"]},
    62: {"controls": ["depth:IMAGE:1 model=control_v11f1p_sd15_depth annotator=none resize=stretch"]},
    63: {"controls": [f"{CANNY} resolution=512 low=100 high=200"]},
    66: {
        "controls": [
            "openpose:IMAGE:1 end=0.9 model=control_v11p_sd15_openpose mode=control annotator=none resize=stretch"
        ]
    },
}
"""What jobs of calls with enabled units of ControlNet say of them."""
UPSCALED = {
    4: {"upscaler": "R-ESRGAN 4x+", "scale": 1.5, "images": 1},
    5: {"upscaler": "R-ESRGAN 4x+", "scale": 1.5, "images": 2},
    13: {"upscaler": "Lanczos", "scale": 2.0, "images": 1},
    59: {"upscaler": "R-ESRGAN 4x+", "scale": 2.0, "images": 1},
}


def _calls() -> list[dict[str, Any]]:
    return json.loads(LIST.read_text()) if LIST.exists() else []


CALLS = _calls()
pytestmark = pytest.mark.skipif(not CALLS, reason=f"{LIST} is not there")


@pytest.fixture(scope="module")
def service() -> LikeA1111:
    return LikeA1111()


@pytest.fixture(scope="module")
def http(service: LikeA1111) -> Generator[httpx.Client]:
    with live(service) as address, httpx.Client(base_url=address, timeout=SECONDS) as client:
        yield client


def filled(value: Any) -> Any:
    """With images in place of what stands for them."""
    match value:
        case str() if value.startswith(("<data URL", "data:image/png;base64,...")):
            return f"data:image/png;base64,{PICTURE}"
        case str() if value.startswith("<b"):
            return PICTURE
        case list():
            return [filled(one) for one in value]
        case dict():
            return {name: filled(one) for name, one in value.items()}
        case _:
            return value


def send(http: httpx.Client, number: int, **changes: Any) -> httpx.Response:
    call = CALLS[number]
    if call["method"] == "GET":
        return http.get(call["endpoint"])
    body = filled(call["body"])
    return http.post(call["endpoint"], json={**body, **changes} if changes else body)


def test_every_call_of_the_dialect_is_looked_at() -> None:
    ours = {n for n, call in enumerate(CALLS) if call["endpoint"].startswith(PREFIXES)}
    rest = {6, 7, 10, 14, 15, *range(16, 22), *range(30, 38), *range(39, 46), 48, 49, 50, 54, 58, 60}
    assert ours == set(MEANS) | set(UNITS) | {8, 29} | set(UPSCALED) | rest


@pytest.mark.parametrize("number", sorted(MEANS))
def test_generations(http: httpx.Client, service: LikeA1111, number: int) -> None:
    before = len(service.submitted)
    answer = send(http, number)
    assert answer.status_code == 200, answer.text
    (job,) = service.submitted[before:]
    found = dict(job.fields)
    for name, short in (("image", "IMAGE"), ("mask", "MASK")):
        if name in found:
            assert str(found[name]).startswith("upload:")
            found[name] = short
    assert found == MEANS[number]
    request_of({name: tuple(value) if isinstance(value, list) else value for name, value in job.fields.items()})
    info = json.loads(answer.json()["info"])
    assert len(answer.json()["images"]) == len(info["infotexts"]) == len(info["all_seeds"]) == 1
    assert info["prompt"] == found["prompt"]
    assert set(info) >= {
        "prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed",
        "all_subseeds", "subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size",
        "restore_faces", "sd_model_name", "sd_model_hash", "sd_vae_name", "seed_resize_from_w", "seed_resize_from_h",
        "denoising_strength", "extra_generation_params", "index_of_first_image", "infotexts", "styles",
        "job_timestamp", "clip_skip", "is_using_inpainting_conditioning", "version",
    }  # fmt: skip


@pytest.mark.parametrize("sampler", ["PLMS", "DDIM", "UniPC"])
def test_each_of_several_samplers(http: httpx.Client, service: LikeA1111, sampler: str) -> None:
    assert send(http, 10, sampler_index=sampler).status_code == 200
    assert service.submitted[-1].fields == {**TEST, "sampler": sampler}


def test_calls_of_a1111s_own_tests(http: httpx.Client, service: LikeA1111) -> None:
    for changes, name, value in (
        ({"enable_hr": True}, "hires_upscale", 2.0),
        ({"enable_hr": True}, "denoising_strength", 0.0),
        ({"tiling": True}, "tile", "xy"),
        ({"restore_faces": True}, "steps", 3),
        ({"height": 128}, "height", 128),
        ({"n_iter": 2}, "batch_count", 2),
        ({"batch_size": 2}, "batch_size", 2),
        ({"prompt": "((emphasis)), (emphasis1:1.1), [to:1], [from::2], [from:to:0.3], [alt|alt1]"}, "steps", 3),
    ):
        assert send(http, 9, **changes).status_code == 200
        assert service.submitted[-1].fields[name] == value
    assert send(http, 11, mask=PICTURE, inpainting_mask_invert=True).status_code == 200
    assert service.submitted[-1].fields["mask_mode"] == "Inpaint not masked"


@pytest.mark.parametrize("number", UNITS)
def test_units_of_controlnet(http: httpx.Client, service: LikeA1111, number: int) -> None:
    before = len(service.submitted)
    answer = send(http, number)
    assert answer.status_code == 200, answer.text
    job, *later = service.submitted[before:]
    steering = {name: job.fields[name] for name in ("controls", "references") if name in job.fields}
    assert without_uploads(steering) == UNITS[number]
    units = [text for texts in UNITS[number].values() for text in texts]
    assert [one.kind for one in later] == ["annotate"] * ("controls" in steering)
    assert len(answer.json()["images"]) == 1 + len(units)
    assert len(json.loads(answer.json()["info"])["infotexts"]) == 1


def test_units_of_controlnet_in_a_plot(http: httpx.Client, service: LikeA1111) -> None:
    """The number of the axis is that of today's A1111."""
    before = len(service.submitted)
    args = [9 if value == 8 else value for value in CALLS[8]["body"]["script_args"]]
    answer = send(http, 8, script_args=args)
    assert answer.status_code == 200, answer.text
    *cells, sheet, maps = service.submitted[before:]
    assert [job.fields["steps"] for job in cells] == [20, 30, 20, 30]
    for job in (*cells, maps):
        assert without_uploads(job.fields["controls"]) == [f"{CANNY} resize=fill resolution=512 low=64 high=64"]
    assert (sheet.kind, maps.kind, len(answer.json()["images"])) == ("sheet", "annotate", 2)


def without_uploads(value: Any) -> Any:
    return json.loads(re.sub("upload:[0-9a-f]{64}", "IMAGE", json.dumps(value)))


def test_masks_of_references_are_refused(http: httpx.Client, service: LikeA1111) -> None:
    before = len(service.submitted)
    answer = send(http, 29)
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "detail", "body", "errors"}
    assert answer.json()["errors"].startswith("ControlNet unit 0: mask: ")
    assert len(service.submitted) == before


@pytest.mark.parametrize("number", UPSCALED)
def test_extras(http: httpx.Client, service: LikeA1111, number: int) -> None:
    answer = send(http, number)
    assert answer.status_code == 200, answer.text
    job = service.submitted[-1]
    images = job.fields["images"]
    assert isinstance(images, list)
    assert (job.kind, {**job.fields, "images": len(images)}) == ("upscale", UPSCALED[number])
    assert ("image" in answer.json()) == (number != 5)


def test_extras_without_an_upscaler_give_the_image_back(http: httpx.Client) -> None:
    assert send(http, 14).json() == {"html_info": "", "image": PICTURE}


def test_png_info(http: httpx.Client) -> None:
    for number in (6, 58):
        found = send(http, number).json()
        assert found["info"].startswith("a cat\nSteps: 20")
        assert found["parameters"]["Seed"] == "5"


def test_options(http: httpx.Client) -> None:
    assert send(http, 7).status_code == 200
    assert http.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == "model.ckpt [7460a6fa00]"
    assert send(http, 15).status_code == 200
    assert CALLS[44]["endpoint"] == CALLS[49]["endpoint"] == "/sdapi/v1/options"
    assert http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "embedded"}).status_code == 200
    progress = http.get("/sdapi/v1/progress").json()
    assert (progress["progress"], progress["state"]["job_count"]) == (0, 0)
    whole = send(http, 48).json()
    title = send(http, 50).json()[1]["title"]
    assert http.post("/sdapi/v1/options", json={**whole, "sd_model_checkpoint": title}).status_code == 200
    assert http.get("/sdapi/v1/options").json() == {
        **whole,
        "sd_model_checkpoint": "animagine-xl.safetensors [aaaaaaaaaa]",
        "sd_checkpoint_hash": "a" * 64,
    }


@pytest.mark.parametrize(
    ("number", "keys"),
    [
        (16, {"name", "aliases", "options"}),
        (17, {"name", "model_name", "model_path", "model_url", "scale"}),
        (20, {"name", "prompt", "negative_prompt"}),
        (40, {"name"}),
        (41, {"model_name", "filename"}),
        (42, {"name", "label", "aliases", "default_rho", "need_inner_model"}),
        (43, {"title", "model_name", "hash", "sha256", "filename", "config"}),
        (50, {"title", "model_name", "hash", "sha256", "filename", "config"}),
    ],
)
def test_lists(http: httpx.Client, number: int, keys: set[str]) -> None:
    found = send(http, number).json()
    assert found
    assert all(set(row) == keys for row in found)


def test_what_there_is_none_of(http: httpx.Client) -> None:
    assert send(http, 19).json() == []
    assert set(send(http, 21).json()) == {"loaded", "skipped"}


def test_what_controlnet_has(http: httpx.Client, service: LikeA1111) -> None:
    assert send(http, 35).json()["model_list"][0] == "control_v11p_sd15_canny [d14c016b]"
    assert "All" in send(http, 36).json()["control_types"]
    assert send(http, 37).json() == {"version": 3}
    for number, images in ((30, 1), (31, 2)):
        answer = send(http, number)
        assert answer.status_code == CALLS[number]["expected_status"], answer.text
        assert (len(answer.json()["images"]), answer.json()["info"]) == (images, "Success")
        assert without_uploads(service.submitted[-1].fields) == {
            "controls": ["canny:IMAGE:1 annotator=canny resolution=512"] * images
        }
    for number in range(32, 35):
        answer = send(http, number)
        assert answer.status_code == CALLS[number]["expected_status"]
        assert CALLS[number]["body"]["controlnet_module"] in answer.json()["detail"]


def test_actions(http: httpx.Client, service: LikeA1111) -> None:
    assert (send(http, 45).status_code, send(http, 45).json()) == (200, {})
    assert http.post(CALLS[54]["endpoint"], json="").status_code == 200
    assert service.calls[-1] == "load"
    form = http.post(CALLS[60]["endpoint"], data=CALLS[60]["body"])
    assert form.json() == {"success": True}
    assert send(http, 39).json()["CLIP_stop_at_last_layers"] == 1
