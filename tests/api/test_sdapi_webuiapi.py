"""The client `webuiapi` from PyPI, unmodified, against a server."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from PIL import Image

from atelier.api.settings import Settings
from atelier.runtime.jobs.job import Job, NewJob, Owner, QueueFull, State
from fakes.a1111 import LikeA1111
from fakes.client import SECRETS, keyed
from fakes.live import SECONDS, live, wait_for
from fakes.service import png

webuiapi = pytest.importorskip("webuiapi", reason="pip install 'atelier[test]'")


@pytest.fixture(scope="module")
def service() -> LikeA1111:
    return LikeA1111()


@pytest.fixture(scope="module")
def address(service: LikeA1111) -> Generator[str]:
    with live(service) as found:
        yield found


@pytest.fixture
def api(address: str) -> Generator[webuiapi.WebUIApi]:
    made = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1")
    yield made
    made.session.close()


def picture(text: str = "") -> Image.Image:
    made = Image.open(io.BytesIO(png(text, size=(64, 48))))
    made.load()
    return made


def test_txt2img(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    result = api.txt2img(prompt="cute squirrel", negative_prompt="ugly", seed=1003, styles=["anime"], cfg_scale=7)
    assert result.image.size == (16, 16)
    assert result.info["seed"] == 1003
    assert result.info["all_seeds"] == [1003]
    assert result.info["infotexts"][0].startswith("cute squirrel\nSteps: 20, Sampler: Euler a")
    assert result.parameters["prompt"] == "cute squirrel"
    assert service.submitted[-1].fields == {
        "rng": "nv", "prompt": "cute squirrel", "negative_prompt": "ugly", "seed": 1003, "styles": ["anime"],
        "steps": 20, "cfg_scale": 7.0, "width": 512, "height": 512, "batch_size": 1, "batch_count": 1,
        "sampler": "Euler a", "eta": 1.0,
    }  # fmt: skip


def test_batches(api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(prompt="a cat", seed=7, batch_size=2, n_iter=2)
    assert len(result.images) == 4
    assert result.info["all_seeds"] == [7, 8, 9, 10]
    assert len(result.info["infotexts"]) == len(result.info["all_prompts"]) == 4


def test_pages_come_first(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    result = api.txt2img(prompt="a cat", seed=7, n_iter=3, save_images=True)
    sheet = service.submitted[-1]
    assert (sheet.kind, sheet.fields["above"], sheet.fields["beside"]) == ("sheet", ["", ""], ["", ""])
    assert len(set(sheet.fields["images"])) == 3  # type: ignore[arg-type]
    assert str(sheet.fields["infotext"]).startswith("a cat\nSteps: 20")
    assert len(result.images) == len(result.info["infotexts"]) == 4
    assert (result.info["index_of_first_image"], result.info["all_seeds"]) == (1, [7, 8, 9])
    for plain in (
        {"n_iter": 1, "save_images": True},
        {"n_iter": 2},
        {"n_iter": 2, "save_images": True, "do_not_save_grid": True},
        {"n_iter": 2, "save_images": True, "override_settings": {"return_grid": False}},
    ):
        result = api.txt2img(prompt="a cat", **plain)
        assert len(result.images) == plain["n_iter"]
        assert result.info["index_of_first_image"] == 0
    args = ["Steps", "3,4", "", "Sampler", "Euler,Heun", "", 0, "", ""]
    plot = api.txt2img(prompt="a cat", script_name="X/Y/Z plot", script_args=args)
    assert len(plot.images) == len(plot.info["infotexts"]) == 1
    assert service.submitted[-1].fields["above"] == ["Steps: 3", "Steps: 4"]
    assert 'Script: X/Y/Z plot, X Type: Steps, X Values: "3,4"' in str(service.submitted[-1].fields["infotext"])
    assert plot.info["extra_generation_params"]["Y Type"] == "Sampler"
    whole = api.txt2img(prompt="a cat", script_name="X/Y/Z plot", script_args=[*args, True, True])
    assert (len(whole.images), whole.info["index_of_first_image"]) == (5, 1)
    assert [job.kind for job in service.submitted[-5:]] == ["generate"] * 4 + ["sheet"]


def test_images_are_sent_where_no_page_can_be_made() -> None:
    class WithoutPages(LikeA1111):
        async def submit(self, job: NewJob, owner: Owner) -> Job:
            if job.kind == "sheet":
                raise QueueFull("256 jobs wait", 7)
            return await super().submit(job, owner)

    with live(WithoutPages()) as address:
        api = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1")
        result = api.txt2img(prompt="a cat|black", script_name="Prompt matrix", script_args=[], n_iter=2)
        args = ["Steps", "3,4", "", 0, "", "", 0, "", ""]
        plot = api.txt2img(prompt="a cat", script_name="X/Y/Z plot", script_args=args)
        api.session.close()
    assert (len(result.images), len(plot.images)) == (2, 2)
    assert result.info["index_of_first_image"] == plot.info["index_of_first_image"] == 0
    assert result.info["warnings"] == plot.info["warnings"] == ["no grid is made: 256 jobs wait"]


def test_a_loop_begins_with_the_image_before(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    result = api.img2img(
        images=[picture()], prompt="a cat", seed=4, script_name="Loopback", script_args=[3, 0.25, "Linear", "None"]
    )
    assert result.info["all_seeds"] == [4, 5, 6]
    jobs = service.submitted[-3:]
    assert [job.fields["denoising_strength"] for job in jobs] == [0.75, 0.5, 0.25]
    made = [data for _, _, data in list(service.files.values())[-3:-1]]
    assert [service.uploads[str(job.fields["image"])][1] for job in jobs[1:]] == made


def test_second_pass(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    api.txt2img(
        prompt="cute squirrel",
        seed=55,
        enable_hr=True,
        hr_scale=2,
        hr_upscaler=webuiapi.HiResUpscaler.Latent,
        hr_second_pass_steps=20,
        hr_resize_x=1536,
        hr_resize_y=1024,
        denoising_strength=0.4,
    )
    fields = service.submitted[-1].fields
    assert fields["hires_resize"] == [1536, 1024]
    assert "hires_upscale" not in fields
    assert (fields["hires_steps"], fields["denoising_strength"]) == (20, 0.4)


def test_img2img_with_a_mask(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    source = picture()
    mask = Image.new("RGB", source.size, "white")
    result = api.img2img(images=[source], mask_image=mask, inpainting_fill=1, prompt="a cat", seed=5, cfg_scale=6.5)
    assert result.image.size == (16, 16)
    fields = service.submitted[-1].fields
    assert str(fields["image"]).startswith("upload:")
    mask_name, image_name = str(fields["mask"]).split(" as large as ")
    assert image_name == fields["image"] != mask_name
    assert {name.partition("upload:")[2] for name in service.uploads} >= {image_name[7:], mask_name[7:]}
    assert (fields["masked_content"], fields["inpaint_area"], fields["cfg_scale"]) == ("original", "Only masked", 6.5)
    assert result.parameters["init_images"] is None
    kept = api.img2img(images=[source], prompt="a cat", include_init_images=True)
    assert kept.parameters["init_images"][0].startswith("data:image/png;base64,")


def test_extras(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    single = api.extra_single_image(image=picture(), upscaler_1=webuiapi.Upscaler.ESRGAN_4x, upscaling_resize=1.5)
    assert single.image.size == (16, 16)
    job = service.submitted[-1]
    assert job.kind == "upscale"
    (name,) = job.fields["images"]  # type: ignore[misc]
    assert {**job.fields, "images": 1} == {"upscaler": "R-ESRGAN 4x+", "scale": 1.5, "images": 1}
    assert str(name).startswith("upload:")
    api.extra_single_image(
        image=picture(), upscaler_1="Lanczos", resize_mode=1, upscaling_resize_w=128, upscaling_resize_h=96
    )
    fields = service.submitted[-1].fields
    assert (fields["width"], fields["height"]) == (128, 96)
    uncut = api.extra_single_image(
        image=picture(), upscaler_1="Lanczos", resize_mode=1, upscaling_resize_w=128, upscaling_resize_h=144,
        upscaling_crop=False,
    )  # fmt: skip
    assert uncut.image.size == (16, 16)
    assert service.submitted[-1].fields["scale"] == 3.0
    batch = api.extra_batch_images(images=[picture(), picture("a")], upscaler_1="Lanczos")
    assert len(service.submitted[-1].fields["images"]) == 2  # type: ignore[arg-type]
    assert len(batch.images) == 2


def test_no_upscaler_leaves_an_image_as_it_is(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    before = len(service.submitted)
    result = api.extra_single_image(image=picture("kept"), upscaler_1="None", gfpgan_visibility=0.5)
    assert result.image.size == (64, 48)
    assert result.image.text["parameters"] == "kept"  # type: ignore[attr-defined]
    assert "faces are not restored" in result.info
    assert len(service.submitted) == before


def test_png_info(api: webuiapi.WebUIApi) -> None:
    text = "a cat\nNegative prompt: fog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x48"
    result = api.png_info(picture(text))
    assert result.info == text
    assert result.parameters["Seed"] == "5"
    assert (result.parameters["Size-1"], result.parameters["Size-2"]) == ("64", "48")
    assert result.parameters["Negative prompt"] == "fog"
    assert api.png_info(picture()).info == ""


def test_interrogate(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    assert api.interrogate(picture()).info == "a red square"
    assert service.submitted[-1].kind == "interrogate"
    with pytest.raises(RuntimeError, match="deepdanbooru"):
        api.interrogate(picture(), model="deepdanbooru")


def test_options_are_read_changed_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "options.json"
    service = LikeA1111()
    with live(service, Settings(options_file=path)) as address:
        api = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1")
        options = api.get_options()
        assert options["sd_model_checkpoint"] == "embedded.safetensors [eeeeeeeeee]"
        for name in ("sd_vae", "CLIP_stop_at_last_layers", "samples_format", "sd_checkpoint_hash", "send_seed"):
            assert name in options
        api.set_options({"send_seed": not options["send_seed"], "CLIP_stop_at_last_layers": 2})
        assert api.get_options()["send_seed"] is not options["send_seed"]
        api.txt2img(prompt="a cat")
        assert service.submitted[-1].fields["clip_skip"] == 2
        api.set_options({"sd_model_checkpoint": "model.ckpt [7460a6fa]"})
        assert service.calls[-1] == "load"
        assert api.util_get_current_model() == "model.ckpt [7460a6fa00]"
        api.set_options({**api.get_options(), "sd_model_checkpoint": "animagine-xl"})
        assert api.util_get_current_model() == "animagine-xl.safetensors [aaaaaaaaaa]"
        refused = api.session.post(f"{address}/sdapi/v1/options", json={"sd_model_checkpoint": "gone"})
        assert (refused.status_code, refused.json()["errors"]) == (422, "model 'gone' not found")
        refused = api.session.post(f"{address}/sdapi/v1/options", json={"no_such": 1})
        assert (refused.status_code, "no_such" in refused.json()["errors"]) == (422, True)
        assert api.session.post(f"{address}/sdapi/v1/options", json={"no_such": None}).status_code == 200
        api.session.close()
    assert json.loads(path.read_text())["CLIP_stop_at_last_layers"] == 2
    with live(LikeA1111(), Settings(options_file=path)) as address:
        again = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1")
        assert again.get_options()["CLIP_stop_at_last_layers"] == 2
        again.session.close()


def test_lists(api: webuiapi.WebUIApi) -> None:
    assert "DPM++ 2M" in api.util_get_sampler_names()
    assert "karras" in api.util_get_scheduler_names()
    assert api.util_get_model_names()[0] == "animagine-xl.safetensors [aaaaaaaaaa]"
    assert api.get_sd_models()[0]["title"] == "embedded.safetensors [eeeeeeeeee]"
    assert api.get_sd_vae() == [{"model_name": "kl-f8", "filename": "kl-f8.safetensors"}]
    assert {row["name"] for row in api.get_upscalers()} >= {"None", "Lanczos", "R-ESRGAN 4x+"}
    assert api.get_latent_upscale_modes()[0] == {"name": "Latent"}
    assert api.get_loras()[0]["name"] == "detail"
    assert api.get_prompt_styles() == [{"name": "anime", "prompt": "anime, {prompt}", "negative_prompt": "photo"}]
    assert api.get_embeddings()["loaded"]["easynegative"]["vectors"] == 8
    assert api.get_hypernetworks() == [{"name": "ghibli", "path": "ghibli.pt"}]
    assert api.get_face_restorers() == []
    assert api.get_realesrgan_models()[0]["name"] == "R-ESRGAN 4x+"
    assert "x/y/z plot" in api.get_scripts()["txt2img"]
    assert "sd upscale" in api.get_scripts()["img2img"]
    assert "sd upscale" not in api.get_scripts()["txt2img"]
    assert api.get_memory()["ram"]["total"] == 6 << 30
    assert api.get_cmd_flags()["api"] is True
    assert not api.has_controlnet
    api.refresh_checkpoints()
    assert api.controlnet_version() == 3
    assert api.controlnet_model_list()[0] == "control_v11p_sd15_canny [d14c016b]"


def test_progress_preview_and_interrupt(address: str) -> None:
    service = LikeA1111(stays=2)
    with live(service) as slow:
        api = webuiapi.WebUIApi(baseurl=f"{slow}/sdapi/v1")
        idle = api.get_progress()
        assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0, 0, None)
        found: list[object] = []
        made = threading.Thread(target=lambda: found.append(api.txt2img(prompt="a cat", n_iter=2)))
        made.start()
        other = webuiapi.WebUIApi(baseurl=f"{slow}/sdapi/v1")
        wait_for(lambda: other.get_progress()["progress"] >= 0.5)
        running = other.get_progress()
        assert running["progress"] == 0.5
        assert running["state"]["job_count"] == 2
        assert running["state"]["sampling_steps"] == 2
        assert running["current_image"]
        assert other.session.get(f"{slow}/sdapi/v1/progress?skip_current_image=true").json()["current_image"] is None
        assert other.interrupt() == {}
        made.join(SECONDS)
        (result,) = found
        assert result.images == []  # type: ignore[attr-defined]
        assert next(iter(service.kept.values())).job.state is State.CANCELLED
        other.util_wait_for_ready(check_interval=0.01)
        for one in (api, other):
            one.session.close()


def test_basic_authentication() -> None:
    with live(LikeA1111(), keyed()) as address:
        anna = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1", username="anna", password=SECRETS["anna"])
        assert len(anna.txt2img(prompt="a cat").images) == 1
        wrong = anna.session.get(f"{address}/sdapi/v1/options", auth=("anna", "wrong"))
        assert wrong.status_code == 401
        assert wrong.headers["WWW-Authenticate"].startswith("Basic")
        assert set(wrong.json()) == {"error", "detail", "body", "errors"}
        assert anna.session.post(f"{address}/sdapi/v1/options", json={"send_seed": False}).status_code == 403
        assert anna.session.post(f"{address}/sdapi/v1/unload-checkpoint").status_code == 403
        root = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1", username="root", password=SECRETS["root"])
        root.set_options({"send_seed": False})
        form = {"username": "anna", "password": SECRETS["anna"]}
        assert anna.session.post(f"{address}/login", data=form).json() == {"success": True}
        assert anna.session.post(f"{address}/login", data={**form, "password": "x"}).status_code == 400
        for one in (anna, root):
            one.session.close()
