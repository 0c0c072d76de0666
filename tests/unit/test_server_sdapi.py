"""A1111's clients, and the command line, against a whole server with its workers."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tiny
from atelier.cli import app
from fakes.live import sent, wait_for
from serving import SECONDS, SMALL, Server, serving

webuiapi = pytest.importorskip("webuiapi", reason="pip install 'atelier[test]'")
NATIVE = {**SMALL, "cfg_scale": 7.0, "sampler": "Euler a", "eta": 1.0, "rng": "nv", "batch_size": 1, "batch_count": 1}
"""What the client sends for CALL, as the native interface says it."""
CALL: dict[str, Any] = {"prompt": "a red apple", "width": 64, "height": 64, "steps": 3, "seed": 7}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "models").mkdir()
    tiny.folder(folder / "models" / "tiny")
    with serving(folder, "--grace", "0", module="faulty", FAULTY=json.dumps({"lease": SECONDS})) as running:
        yield running


@pytest.fixture
def api(server: Server) -> Iterator[Any]:
    made = webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1")
    yield made
    made.session.close()


def files(result: Any) -> list[bytes]:
    """The files that an answer holds."""
    return [base64.b64decode(image) for image in result.json["images"]]


def hashes(server: Server, **fields: Any) -> list[str]:
    return [image["sha256"] for image in server.ended(server.submit(**fields))["images"]]


def test_the_image_is_that_of_the_native_interface(server: Server, api: Any) -> None:
    (file,) = files(api.txt2img(**CALL))
    assert [hashlib.sha256(file).hexdigest()] == hashes(server, **NATIVE)


def test_variations_have_their_seeds(api: Any) -> None:
    varied = api.txt2img(**CALL, subseed=5, subseed_strength=0.5, n_iter=2)
    assert (varied.info["all_seeds"], varied.info["all_subseeds"]) == ([7, 7], [5, 6])
    assert varied.info["subseed_strength"] == 0.5


def test_an_infotext_makes_the_same_image_again(api: Any, server: Server) -> None:
    result = api.txt2img(**CALL, styles=[], enable_hr=True, hr_scale=2, denoising_strength=0.5)
    info = api.png_info(result.image)
    assert info.info == result.info["infotexts"][0]
    with server.client() as http:
        again = http.post("/sdapi/v1/txt2img", json={"infotext": info.info}).json()
    with Image.open(io.BytesIO(base64.b64decode(again["images"][0]))) as image:
        assert image.size == (128, 128)
        assert image.tobytes() == result.image.convert("RGB").tobytes()


def test_img2img_keeps_what_the_mask_keeps(api: Any) -> None:
    source = Image.new("RGB", (64, 64), (200, 30, 30))
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    result = api.img2img(
        images=[source], mask_image=mask, inpaint_full_res=False, inpainting_fill=1, mask_blur=0, **CALL
    )
    assert result.image.getpixel((5, 30)) == (200, 30, 30)
    assert result.image.crop((40, 0, 64, 64)).getcolors(1) is None
    assert result.info["denoising_strength"] == 0.75


def test_extras_enlarge(api: Any) -> None:
    source = Image.new("RGB", (20, 10), "red")
    assert api.extra_single_image(image=source, upscaler_1="Lanczos", upscaling_resize=3).image.size == (60, 30)
    cut = api.extra_single_image(
        image=source, upscaler_1="Lanczos", resize_mode=1, upscaling_resize_w=30, upscaling_resize_h=30
    )
    assert cut.image.size == (30, 30)
    batch = api.extra_batch_images(images=[source, source.rotate(90, expand=True)], upscaler_1="Lanczos")
    assert [image.size for image in batch.images] == [(40, 20), (20, 40)]


def test_models_are_switched_for_one_request_and_for_all(api: Any) -> None:
    once = api.txt2img(**CALL, override_settings={"sd_model_checkpoint": "tiny"})
    assert once.info["sd_model_name"] == "tiny"
    assert api.txt2img(**CALL).info["sd_model_name"] == "embedded"
    api.set_options({"sd_model_checkpoint": "tiny"})
    try:
        assert api.get_options()["sd_model_checkpoint"].startswith("tiny")
        assert api.txt2img(**CALL).info["sd_model_name"] == "tiny"
    finally:
        api.set_options({"sd_model_checkpoint": "embedded"})


def test_a_plot_is_a_page(api: Any) -> None:
    args = ["Steps", "2,3", "", "Sampler", "Euler,Heun", "", 0, "", "", True, True]
    result = api.txt2img(**CALL, script_name="X/Y/Z plot", script_args=args)
    assert [image.size for image in result.images[1:]] == [(64, 64)] * 4
    assert min(result.image.size) > 128
    texts = result.info["infotexts"]
    assert [text.split("Steps: ")[1][0] for text in texts[1:]] == ["2", "3", "2", "3"]
    assert 'X Type: Steps, X Values: "2,3"' in texts[0]


def test_progress_and_interrupt(server: Server, api: Any) -> None:
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(api.txt2img(**{**CALL, "steps": 200}, n_iter=2)))
    with server.held(3), server.client() as http:
        waiting.start()
        wait_for(lambda: http.get("/sdapi/v1/progress").json()["state"]["sampling_step"] == 3)
        progress = http.get("/sdapi/v1/progress").json()
        assert 0 < progress["progress"] < 1
        assert progress["state"]["sampling_steps"] == 200
        assert http.post("/sdapi/v1/skip").status_code == 422
        assert http.post("/sdapi/v1/interrupt").json() == {}
        waiting.join(SECONDS)
        assert found[0].images == []
        assert http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0


def test_a_client_that_goes_away_takes_its_job_with_it(server: Server) -> None:
    def newest() -> Any:
        return http.get("/v1/jobs?limit=1").json()["data"][0]

    with server.held(1), server.client() as http:
        with sent(server.url, "/sdapi/v1/txt2img", {**CALL, "prompt": "a pear for nobody"}):
            wait_for(lambda: newest()["asked"]["prompt"] == "a pear for nobody")
        assert server.ended(newest()["id"])["state"] == "cancelled"


def test_damaged_images_are_named(server: Server) -> None:
    damaged = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 50).decode()
    with server.client() as http:
        for path, body in (
            ("img2img", {**CALL, "init_images": [damaged]}),
            ("extra-single-image", {"image": damaged, "upscaler_1": "Lanczos"}),
            ("png-info", {"image": damaged}),
            ("interrogate", {"image": damaged}),
        ):
            answer = http.post(f"/sdapi/v1/{path}", json=body)
            assert (answer.status_code, set(answer.json())) == (422, {"error", "detail", "body", "errors"})
            assert "image" in answer.json()["errors"]


def test_the_command_line_saves_what_the_server_made(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--width", "64", "--height", "64", "--steps", "3", "--seed", "7", "--batch-count", "2"]
    output = str(tmp_path / "made")
    assert app.run(["submit", "a red apple", *options, "--wait", "-o", output, "--server", server.url]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == ["00001-7.png", "00002-8.png"]
    expected = hashes(server, batch_count=2)
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == expected
