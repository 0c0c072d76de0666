"""What A1111's ControlNet extension answers: lists, hints, detected maps; by `webuiapi` where that has a call.

Its `alwayson_scripts` is one dictionary for all calls that give none, so that units would stay for other tests.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from PIL import Image

from atelier.api.sdapi.control_lists import control_types
from atelier.api.service import NamedEntry
from atelier.errors import BadFile, about
from atelier.runtime.jobs.job import Job, NewJob, Owner, QueueFull
from atelier.runtime.workers.names import shown
from fakes.a1111 import PICTURE, STEERED, LikeA1111
from fakes.live import SECONDS, live, post
from fakes.service import png

webuiapi = pytest.importorskip("webuiapi", reason="pip install 'atelier[test]'")
CANNY = "canny:IMAGE:1 model=control_v11p_sd15_canny"
POSE = {
    "people": [{"pose_keypoints_2d": [10.0, 10.0, 1.0] * 18}],
    "canvas_width": 64,
    "canvas_height": 64,
}


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


@pytest.fixture
def http(address: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=SECONDS) as client:
        yield client


def picture(colour: tuple[int, int, int] = (9, 9, 9)) -> Image.Image:
    return Image.open(io.BytesIO(png("", colour, (64, 48))))


def bare(value: Any) -> Any:
    return json.loads(re.sub("upload:[0-9a-f]{64}", "IMAGE", json.dumps(value)))


def test_a_unit_of_webuiapi(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    model = api.controlnet_model_list()[0]
    unit = webuiapi.ControlNetUnit(image=picture(), module="canny", model=model, weight=0.8, control_mode=1)
    result = api.txt2img(
        prompt="a cat", seed=3, n_iter=2, width=96, height=64, controlnet_units=[unit], alwayson_scripts={}
    )
    job, maps = service.submitted[-2:]
    assert bare(job.fields["controls"]) == [
        f"{CANNY.replace(':1', ':0.8')} mode=prompt annotator=canny resize=fill resolution=512 low=64 high=64"
    ]
    assert maps == NewJob("annotate", {"controls": job.fields["controls"], "width": 96, "height": 64})
    assert len(result.images) == 3
    assert (len(result.info["infotexts"]), result.info["all_seeds"]) == (2, [3, 4])
    (uploaded,) = re.findall("upload:[0-9a-f]{64}", str(job.fields["controls"]))
    sent = Image.open(io.BytesIO(next(data for name, (_, data) in service.uploads.items() if name.endswith(uploaded))))
    assert sent.getpixel((0, 0)) == (9, 9, 9)


def test_units_of_img2img_read_its_image(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    unit = webuiapi.ControlNetUnit(module="canny", model="control_v11p_sd15_canny")
    result = api.img2img(images=[picture()], prompt="a cat", controlnet_units=[unit], alwayson_scripts={})
    job, maps = service.submitted[-2:]
    assert str(job.fields["controls"]).startswith("['canny::1 ")
    assert maps.fields["controls"] == [str(job.fields["controls"][0]).replace("::", f":{job.fields['image']}:")]  # type: ignore[index]
    assert len(result.images) == 2


def test_the_map_of_a_reference_is_its_image(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    prompt = webuiapi.ControlNetUnit(image=picture((1, 2, 3)), module="ip-adapter-auto", model="ip-adapter_sd15")
    hint = webuiapi.ControlNetUnit(image=picture(), module="canny", model="control_v11p_sd15_canny")
    result = api.txt2img(prompt="a cat", controlnet_units=[prompt, hint], alwayson_scripts={})
    assert [own.size for own in result.images] == [(16, 16), (64, 48), (16, 16)]
    assert result.images[1].getpixel((0, 0)) == (1, 2, 3)
    before = len(service.submitted)
    alone = api.txt2img(prompt="a cat", controlnet_units=[prompt], alwayson_scripts={})
    assert (len(alone.images), len(service.submitted)) == (2, before + 1)


def test_inpaint_and_reference_units_of_webuiapi(api: webuiapi.WebUIApi, service: LikeA1111) -> None:
    example = webuiapi.ControlNetUnit(image=picture((1, 2, 3)), module="reference_only", threshold_a=0.3)
    hole = webuiapi.ControlNetUnit(image=picture(), mask=picture((255, 255, 255)), module="inpaint_only", model="mine")
    result = api.txt2img(prompt="a cat", controlnet_units=[example, hole], alwayson_scripts={})
    job, maps = service.submitted[-2:]
    assert bare(job.fields["references"]) == ["IMAGE:1 method=example fidelity=0.3"]
    assert job.fields["controls"] == ["inpaint::1 model=mine annotator=inpaint_only resize=fill"]
    assert (bare(job.fields["image"]), job.fields["denoising_strength"]) == ("IMAGE", 1.0)
    assert f"{job.fields['mask']}".startswith("upload:")
    assert maps.fields["controls"] == [f"inpaint:{job.fields['image']}:1 model=mine annotator=inpaint_only resize=fill"]
    assert [own.size for own in result.images] == [(16, 16), (64, 48), (16, 16)]
    masked = webuiapi.ControlNetUnit(module="inpaint_only", model="mine")
    api.img2img(images=[picture()], mask_image=picture(), controlnet_units=[masked], alwayson_scripts={})
    assert service.submitted[-2].fields["controls"] == job.fields["controls"]


def test_images_are_sent_where_no_map_can_be_drawn(http: httpx.Client) -> None:
    class WithoutMaps(LikeA1111):
        async def submit(self, job: NewJob, owner: Owner) -> Job:
            if job.kind == "annotate":
                raise QueueFull("256 jobs wait", 7)
            return await super().submit(job, owner)

    with live(WithoutMaps()) as address:
        answer = post(f"{address}/sdapi/v1/txt2img", json=body())
    assert len(answer.json()["images"]) == 1
    assert json.loads(answer.json()["info"])["warnings"] == ["no detected map is made: 256 jobs wait"]
    assert http.post("/sdapi/v1/txt2img", json=body(send_images=False)).json()["images"] == []


def body(image: str = PICTURE, **more: Any) -> dict[str, Any]:
    unit = {"module": "canny", "model": "control_v11p_sd15_canny", "image": image, "enabled": True}
    return {"prompt": "a cat", "alwayson_scripts": {"controlnet": {"args": [unit]}}, **more}


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("http://127.0.0.1/a.png", "ControlNet unit 0: image is a URL"),
        ("/etc/passwd", "ControlNet unit 0: image is no PNG, JPEG or WebP"),
        ("data:text/html,x", "ControlNet unit 0: image is no data URL of an image"),
        ("%", "ControlNet unit 0: image is no base64"),
    ],
)
def test_what_is_no_image_is_refused_by_the_unit(http: httpx.Client, service: LikeA1111, image: str, told: str) -> None:
    before = len(service.submitted)
    answer = http.post("/sdapi/v1/txt2img", json=body(image))
    assert answer.status_code == 422
    assert answer.json()["errors"].startswith(told)
    assert len(service.submitted) == before


@pytest.mark.parametrize("field", ["controls", "references", "faces"])
def test_what_is_found_out_later_is_told_of_units(field: str) -> None:
    class Choosy(LikeA1111):
        def _check(self, job: NewJob, owner: Owner) -> None:
            (name,) = self.uploads
            with about(field):
                if job.fields["prompt"] == "a dog":
                    raise BadFile("canny.safetensors", "is for another model")
                raise BadFile(shown(name.removeprefix(owner.key)), "is damaged")

    with live(Choosy()) as address:
        answer = post(f"{address}/sdapi/v1/txt2img", json=body(prompt="a dog"))
        assert (answer.status_code, answer.json()["errors"]) == (
            422,
            "ControlNet: canny.safetensors: is for another model",
        )
        answer = post(f"{address}/sdapi/v1/txt2img", json=body())
        assert answer.json()["errors"] == "ControlNet unit 0: image: is damaged"


def test_lists(api: webuiapi.WebUIApi, http: httpx.Client) -> None:
    assert api.controlnet_version() == 3
    assert api.controlnet_model_list() == [
        "control_v11p_sd15_canny [d14c016b]",
        "control_v11f1p_sd15_depth [cfd03158]",
        "control_v11p_sd15_openpose [cab727d4]",
        "ip-adapter_sd15 [6a3f6166]",
        "ip-adapter-plus-face_sd15 [71693645]",
        "ip-adapter-full-face_sd15",
        "ip-adapter-faceid-plusv2_sd15 [6e14fc1a]",
        "ip-adapter_instant_id_sdxl [eb2d3ec0]",
        "control_instant_id_sdxl [c5c25a50]",
        "mine",
    ]
    assert http.get("/controlnet/settings").json() == {"control_net_unit_count": 10}
    assert http.get("/controlnet/model_list?update=true").json() == {"model_list": api.controlnet_model_list()}


def test_modules_with_their_sliders(api: webuiapi.WebUIApi, http: httpx.Client) -> None:
    found = http.get("/controlnet/module_list?alias_names=false").json()
    assert found["module_list"] == api.controlnet_module_list() == [
        "none", "canny", "depth_midas", "inpaint_only", "tile_resample", "lineart_standard", "normal_from_depth",
        "ip-adapter-auto", "ip-adapter_clip_sd15", "ip-adapter_clip_sdxl", "ip-adapter_clip_sdxl_plus_vith",
        "ip-adapter_clip_h", "ip-adapter_clip_g", "ip-adapter_face_id", "ip-adapter_face_id_plus",
        "instant_id_face_embedding", "instant_id_face_keypoints", "reference_only",
    ]  # fmt: skip
    details = found["module_detail"]
    resolution = {"name": "Preprocessor Resolution", "value": 512, "min": 64, "max": 2048}
    assert details["canny"] == {
        "model_free": False,
        "sliders": [
            resolution,
            {"name": "Low", "value": 100, "min": 0, "max": 256, "step": 1},
            {"name": "High", "value": 200, "min": 0, "max": 256, "step": 1},
        ],
    }
    assert details["depth_midas"] == {"model_free": False, "sliders": [resolution]}
    assert details["lineart_standard"] == {"model_free": False, "sliders": [resolution]}
    assert details["none"] == {"model_free": False, "sliders": []}
    fidelity = {"name": 'Style Fidelity (only for "Balanced" mode)', "value": 0.5, "min": 0.0, "max": 1.0, "step": 0.01}
    assert details["reference_only"] == {"model_free": True, "sliders": [None, fidelity]}
    rate = {"name": "Rate", "value": 1, "min": 1, "max": 8, "step": 0.01}
    assert details["tile_resample"] == {"model_free": False, "sliders": [None, rate]}


def test_types_with_their_choices(http: httpx.Client) -> None:
    types = http.get("/controlnet/control_types").json()["control_types"]
    assert list(types)[:4] == ["All", "Canny", "Depth", "NormalMap"]
    assert {"OpenPose", "MLSD", "Lineart", "SoftEdge", "Scribble", "Segmentation", "Shuffle", "Tile", "Inpaint",
            "InstructP2P", "Recolor", "T2I-Adapter", "IP-Adapter"} < types.keys()  # fmt: skip
    assert types["Canny"] == {
        "module_list": ["none", "canny"],
        "model_list": ["None", "control_v11p_sd15_canny [d14c016b]"],
        "default_option": "canny",
        "default_model": "control_v11p_sd15_canny [d14c016b]",
    }
    assert types["MLSD"] == {
        "module_list": ["none"], "model_list": ["None"], "default_option": "none", "default_model": "None"
    }  # fmt: skip
    assert types["IP-Adapter"]["default_model"] == "ip-adapter_sd15 [6a3f6166]"
    assert types["Inpaint"]["default_option"] == "inpaint_only"
    assert types["Reference"] == {
        "module_list": ["none", "reference_only"], "model_list": ["None"], "default_option": "reference_only",
        "default_model": "None",
    }  # fmt: skip
    assert types["IP-Adapter"]["model_list"][-1] == "ip-adapter-faceid-plusv2_sd15 [6e14fc1a]"
    assert types["Instant-ID"] == {
        "module_list": ["none", "instant_id_face_embedding", "instant_id_face_keypoints"],
        "model_list": ["None", "ip-adapter_instant_id_sdxl [eb2d3ec0]", "control_instant_id_sdxl [c5c25a50]"],
        "default_option": "instant_id_face_embedding",
        "default_model": "ip-adapter_instant_id_sdxl [eb2d3ec0]",
    }
    assert types["All"]["default_option"] == "none"
    assert types["All"]["model_list"][0] == "None"
    assert len(types["All"]["model_list"]) == 11


def test_hints_are_drawn(api: webuiapi.WebUIApi, http: httpx.Client, service: LikeA1111) -> None:
    found = api.controlnet_detect(images=[picture(), picture()], module="depth", processor_res=384)
    assert [own.size for own in found.images] == [(16, 16)] * 2
    assert service.submitted[-1].kind == "annotate"
    assert bare(service.submitted[-1].fields) == {
        "controls": ["depth_midas:IMAGE:1 annotator=depth_midas resolution=384"] * 2
    }
    sent = {"controlnet_module": "canny", "controlnet_input_images": [PICTURE], "controlnet_threshold_a": 30,
            "controlnet_threshold_b": -1, "controlnet_processor_res": -1}  # fmt: skip
    answer = http.post("/controlnet/detect", json=sent)
    assert (answer.json()["info"], len(answer.json()["images"])) == ("Success", 1)
    assert bare(service.submitted[-1].fields) == {"controls": ["canny:IMAGE:1 annotator=canny resolution=512 low=30"]}
    http.post("/controlnet/detect", json={**sent, "controlnet_module": "lineart_standard"})
    lines = "lineart_standard:IMAGE:1 annotator=lineart_standard resolution=512"
    assert bare(service.submitted[-1].fields) == {"controls": [lines]}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"controlnet_module": "canny"}, "No image selected"),
        ({"controlnet_module": "canny", "controlnet_input_images": [""]}, "No image selected"),
        ({"controlnet_module": "cannny"}, "Module not available: controlnet_module 'cannny': did you mean canny"),
        (
            {"controlnet_module": "openpose"},
            "Module not available: controlnet_module 'openpose': its file",
        ),
        ({"controlnet_module": "inpaint"}, "Module not available"),
        ({"controlnet_module": "ip-adapter_clip_sd15"}, "Module not available"),
        ({"controlnet_module": "reference_only"}, "Module not available"),
        (
            {"controlnet_module": "canny", "controlnet_input_images": ["http://a/b.png"]},
            "controlnet_input_images[0]",
        ),
        ({"controlnet_module": "canny", "controlnet_input_images": [PICTURE] * 65}, "controlnet_input_images: 65 are"),
    ],
)
def test_what_cannot_be_drawn_is_refused(http: httpx.Client, sent: dict[str, Any], told: str) -> None:
    answer = http.post("/controlnet/detect", json=sent)
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "detail", "body", "errors"}
    assert answer.json()["errors"].startswith(told)


def test_poses_are_drawn(http: httpx.Client, service: LikeA1111) -> None:
    answer = http.post("/controlnet/render_openpose_json", json=[POSE, POSE])
    assert (answer.status_code, answer.json()["info"], len(answer.json()["images"])) == (200, "Success", 2)
    assert base64.b64decode(answer.json()["images"][0]).startswith(b"\x89PNG")
    assert [json.loads(text) for text in service.submitted[-1].fields["poses"]] == [POSE, POSE]  # type: ignore[union-attr]
    for wrong in ([], {}, [5], [POSE] * 65):
        assert http.post("/controlnet/render_openpose_json", json=wrong).status_code == 422


def test_image_prompts_are_of_no_type_of_hints() -> None:
    found = control_types(replace(STEERED, controls=(NamedEntry("ip-adapter_canny", "a", {"kind": "reference"}),)))
    assert found["Canny"]["model_list"] == ["None"]  # type: ignore[index,call-overload]
    assert found["IP-Adapter"]["default_model"] == "ip-adapter_canny"  # type: ignore[index,call-overload]
