"""Units of A1111's ControlNet extension, against controls and references written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from atelier.api.errors import Refused
from atelier.api.sdapi import translate
from atelier.api.sdapi.bodies import Img2Img, Txt2Img
from atelier.api.sdapi.translate import Asked
from atelier.request.table import request_of
from fakes.a1111 import PICTURE, STEERED

UNIT: dict[str, Any] = {
    "enabled": True,
    "module": "canny",
    "model": "control_v11p_sd15_canny [d14c016b]",
    "image": PICTURE,
}
USUAL = "canny:upload:unit0.image:1 model=control_v11p_sd15_canny annotator=canny resolution=512"


def text(*units: Any, title: str = "ControlNet", **body: Any) -> Asked:
    sent = {"prompt": "a cat", "alwayson_scripts": {title: {"args": list(units)}}, **body}
    return translate.txt2img(Txt2Img.model_validate(sent), STEERED, {}, lambda: 77)


def image(*units: Any, **body: Any) -> Asked:
    sent = {
        **body,
        "prompt": "a cat",
        "init_images": [PICTURE],
        "alwayson_scripts": {"controlnet": {"args": list(units)}},
    }
    return translate.img2img(Img2Img.model_validate(sent), STEERED, {}, lambda: 77)


def steering(asked: Asked) -> dict[str, Any]:
    """What the one request says of it, which has to be one that can be made."""
    (fields,) = asked.runs.fields
    request_of({name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
    return {name: fields[name] for name in ("controls", "references", "faces") if name in fields}


def refused(*units: Any) -> str:
    with pytest.raises(Refused) as caught:
        text(*units)
    assert caught.value.problem.status == 422
    assert "\n" not in caught.value.problem.message
    return caught.value.problem.message


@pytest.mark.parametrize("title", ["ControlNet", "controlnet", "CONTROLNET "])
def test_a_unit_is_a_control(title: str) -> None:
    asked = text(UNIT, title=title)
    assert steering(asked) == {"controls": [USUAL]}
    assert asked.images == {"unit0.image": PICTURE}
    assert [own.control for own in asked.maps] == [USUAL]
    assert asked.warnings == ()


def test_units_that_are_off_are_none() -> None:
    for off in (False, 0, "false"):
        for unit in ({**UNIT, "enabled": off}, {"enabled": off, "weight": "heavy", "model": "gone"}):
            assert steering(text(unit, None, False)) == {}
    asked = text({"image": PICTURE})
    assert (steering(asked), asked.warnings) == ({}, ("ControlNet unit 0: it names no model, and changes nothing",))
    assert steering(text()) == {}
    said_by_the_model = {name: value for name, value in UNIT.items() if name != "enabled"}
    assert steering(text(None, said_by_the_model)) == {"controls": [USUAL.replace("unit0", "unit1")]}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weight": 0.35}, ":0.35 model="),
        ({"weight": "2"}, ":2 model="),
        ({"guidance_start": 0.25, "guidance_end": 0.75}, " start=0.25 end=0.75 "),
        ({"guidance": 0.5}, " end=0.5 "),
        ({"control_mode": 1}, " mode=prompt "),
        ({"control_mode": "ControlNet is more important"}, " mode=control "),
        ({"control_mode": "My prompt is more important"}, " mode=prompt "),
        ({"guessmode": True}, " mode=control "),
        ({"resize_mode": 0}, " resize=stretch "),
        ({"resize_mode": "Just Resize"}, " resize=stretch "),
        ({"resize_mode": 2}, " resize=fill "),
        ({"resize_mode": "Outer Fit (Shrink to Fit)"}, " resize=fill "),
        ({"resize_mode": "Envelope (Outer Fit)"}, " resize=fill "),
        ({"hr_option": "Low res only"}, " pass=first "),
        ({"hr_option": "High res only"}, " pass=second "),
        ({"processor_res": 768}, " resolution=768"),
        ({"threshold_a": 50, "threshold_b": 120.5}, " low=50 high=120.5"),
        ({"threshold_b": 120}, " high=120"),
        ({"effective_region_mask": PICTURE}, " mask=upload:unit0.effective_region_mask "),
    ],
)
def test_a_field_of_a_unit(fields: dict[str, Any], said: str) -> None:
    asked = text({**UNIT, **fields})
    (control,) = steering(asked)["controls"]
    assert said.replace(" mask=upload:unit0.effective_region_mask ", ' mask="upload:unit0.effective_region_mask"') in (
        f"{control} "
    )
    assert asked.warnings == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"control_mode": 0, "resize_mode": 1, "hr_option": "Both"},
        {"resize_mode": "Crop and Resize", "control_mode": "Balanced", "low_vram": True, "loopback": False},
        {"resize_mode": "Inner Fit (Scale to Fit)", "mask": None, "mask_image": ""},
        {"resize_mode": "Scale to Fit (Inner Fit)", "input_mode": "simple", "batch_images": "", "output_dir": ""},
        {"module": "CANNY", "model": "control_v11p_sd15_canny"},
        {"model": "control_v11p_sd15_canny.safetensors"},
        {"model": "renamed [d14c016b]"},
        {"processor_res": -1, "threshold_a": -1, "threshold_b": None},
        {"image": {"image": PICTURE, "mask": None}},
        {"image": {"image": PICTURE, "mask": ""}},
        {"image": [PICTURE, None]},
        {"image": [{"image": PICTURE}]},
        {"image": None, "input_image": PICTURE},
        {"union_control_type": "Unknown"},
    ],
)
def test_what_a_unit_says_without_saying_more(fields: dict[str, Any]) -> None:
    asked = text({**UNIT, **fields})
    assert steering(asked) == {"controls": [USUAL]}
    assert asked.images == {"unit0.image": PICTURE}


def test_pixel_perfect_is_no_resolution() -> None:
    assert steering(text({**UNIT, "pixel_perfect": True})) == {"controls": [USUAL.replace(" resolution=512", "")]}


def test_numbers_that_cannot_be_are_the_annotators_own_and_told() -> None:
    asked = text({**UNIT, "processor_res": -100, "threshold_a": -100, "threshold_b": 1000})
    assert steering(asked) == {"controls": [USUAL]}
    assert asked.warnings == (
        "ControlNet unit 0: processor_res: -100 cannot be used; 512 is",
        "ControlNet unit 0: threshold_a: -100 cannot be used; 100 is",
        "ControlNet unit 0: threshold_b: 1000 cannot be used; 200 is",
    )


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ({"module": "depth_midas", "model": "control_v11f1p_sd15_depth"}, "depth"),
        ({"module": "MidasDetector", "model": "mine"}, "depth"),
        ({"module": "none", "model": "control_v11p_sd15_openpose [cab727d4]"}, "openpose"),
        ({"module": "None", "model": "mine"}, "hint"),
        ({"module": "none", "model": "mine", "union_control_type": "OpenPose"}, "openpose"),
        ({"module": "none", "model": "mine", "union_control_type": "NormalMap"}, "normal"),
        ({"module": "tile_resample", "model": "mine", "threshold_a": 2}, "tile"),
    ],
)
def test_the_type_is_that_of_whatever_says_one(unit: dict[str, Any], said: str) -> None:
    (control,) = steering(text({**UNIT, **unit}))["controls"]
    assert control.partition(":")[0] == said


def test_image_prompts_are_references() -> None:
    unit = {**UNIT, "module": "ip-adapter_clip_sd15", "model": "ip-adapter_sd15 [6a3f6166]", "weight": 0.6}
    asked = text({**unit, "guidance_end": 0.5}, UNIT)
    assert steering(asked) == {
        "references": ["upload:unit0.image:0.6 end=0.5 model=ip-adapter_sd15"],
        "controls": [USUAL.replace("unit0", "unit1")],
    }
    assert [(own.control[:5], own.image) for own in asked.maps] == [("", "unit0.image"), ("canny", "")]
    assert list(steering(text({**unit, "module": "none"}))) == ["references"]
    for module in ("ip-adapter-auto", "ip-adapter_clip_sdxl", "ip-adapter_clip_sdxl_plus_vith", "ip-adapter_clip_h"):
        assert list(steering(text({**unit, "module": module}))) == ["references"]


def test_units_with_faces_are_faces() -> None:
    """The LoRA of FaceID is a tag's in A1111."""
    unit = {**UNIT, "module": "ip-adapter_face_id_plus", "model": "ip-adapter-faceid-plusv2_sd15 [6e14fc1a]"}
    said = "upload:unit0.image:0.6 end=0.5 model=ip-adapter-faceid-plusv2_sd15 lora=0 control=none"
    asked = text({**unit, "weight": 0.6, "guidance_end": 0.5})
    assert steering(asked) == {"faces": [said]}
    assert [own.image for own in asked.maps] == ["unit0.image"]
    for module in ("ip-adapter_face_id", "ip-adapter-auto", "none"):
        assert steering(text({**unit, "module": module, "weight": 0.6, "guidance_end": 0.5})) == {"faces": [said]}


FACE_UNIT = {**UNIT, "module": "instant_id_face_embedding", "model": "ip-adapter_instant_id_sdxl"}
POSE_UNIT = {**UNIT, "module": "instant_id_face_keypoints", "model": "control_instant_id_sdxl", "weight": 0.4}
POSED = (
    "upload:unit{}.image:1 model=ip-adapter_instant_id_sdxl lora=0 control=control_instant_id_sdxl control_weight=0.4 "
    'pose="upload:unit{}.image"'
)


def test_a_unit_of_keypoints_says_where_the_face_of_another_is() -> None:
    said = {"faces": [POSED.format(0, 1)]}
    asked = text(FACE_UNIT, POSE_UNIT)
    assert steering(asked) == said
    assert set(asked.images) == {"unit0.image", "unit1.image"}
    assert steering(text(POSE_UNIT, FACE_UNIT)) == {"faces": [POSED.format(1, 0)]}
    plain = {**FACE_UNIT, "model": "ip-adapter-faceid-plusv2_sd15"}
    both = steering(text(plain, FACE_UNIT, POSE_UNIT))["faces"]
    assert both[0].endswith("control=none")
    assert both[1] == POSED.format(1, 2)
    assert refused(FACE_UNIT, {**POSE_UNIT, "guidance_end": 0.5}).startswith(
        "ControlNet unit 1: guidance_end: it is not"
    )
    with pytest.raises(Refused, match="unit 2: module: instant_id_face_keypoints needs a unit with a face"):
        text(FACE_UNIT, POSE_UNIT, POSE_UNIT)


def test_the_image_to_start_from_is_read_where_there_is_none() -> None:
    bare = {**UNIT, "image": None}
    assert steering(image(bare)) == {"controls": [USUAL.replace("upload:unit0.image", "")]}
    prompt = {**bare, "module": "ip-adapter-auto", "model": "ip-adapter_sd15"}
    asked = image(prompt)
    assert steering(asked) == {"references": ["upload:image:1 model=ip-adapter_sd15"]}
    assert asked.images == {"image": PICTURE}
    assert [own.image for own in asked.maps] == ["image"]
    assert refused(bare) == "ControlNet unit 0: image: there is none, and none to start from"


def test_a_part_of_the_image_is_steered_by_that_part_of_the_hint() -> None:
    whole = {**UNIT, "inpaint_crop_input_image": False}
    assert steering(text(whole)) == steering(image(whole)) == {"controls": [USUAL]}
    with pytest.raises(Refused, match="ControlNet unit 0: inpaint_crop_input_image: false is not taken"):
        image(whole, mask=PICTURE)


def test_maps_are_only_those_that_are_wanted() -> None:
    asked = text({**UNIT, "save_detected_map": False}, UNIT)
    assert [own.control for own in asked.maps] == [USUAL.replace("unit0", "unit1")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "None"}, "model: none is named"),
        ({"model": "control_v11p_sd15_cany"}, "model: 'control_v11p_sd15_cany' not found; did you mean"),
        ({"module": "cannny"}, "module: 'cannny' not found; did you mean canny"),
        ({"module": "openpose"}, "module: 'openpose': its file body_pose.pth is not there"),
        ({"module": "reference_only", "model": "None"}, "module: 'reference_only': it is not done here"),
        ({"module": "inpaint_only"}, "module: 'inpaint_only': what a mask covers"),
        ({"module": "ip-adapter_pulid"}, "module: 'ip-adapter_pulid': PuLID is not done here"),
        ({"module": "ip-adapter_face_id"}, "model: 'control_v11p_sd15_canny' reads a hint, and ip-adapter_face_id is"),
        (
            {"module": "instant_id_face_keypoints", "model": "ip-adapter_instant_id_sdxl"},
            "model: 'ip-adapter_instant_id_sdxl' is no ControlNet",
        ),
        ({"module": "instant_id_face_keypoints", "control_mode": 1}, "control_mode: of a face it is balanced"),
        (
            {"module": "instant_id_face_keypoints"},
            "module: instant_id_face_keypoints needs a unit with a face: instant_id_face_embedding",
        ),
        ({"module": "ip-adapter-auto"}, "model: 'control_v11p_sd15_canny' reads a hint"),
        ({"model": "ip-adapter_sd15"}, "module: 'canny' draws a hint, and ip-adapter_sd15 reads an image"),
        ({"weight": "heavy"}, "weight: a number is needed"),
        ({"weight": -0.5}, "weight: -0.5: it can be 0 to 10"),
        ({"guidance_end": 1.5}, "guidance_end: 1.5: it can be 0 to 1"),
        ({"guidance_start": 0.6, "guidance_end": 0.4}, "guidance_start: 0.6 is not before guidance_end 0.4"),
        ({"resize_mode": 3}, "resize_mode: '3': give 0 to 2, or one of just resize"),
        ({"resize_mode": "latent"}, "resize_mode: 'latent': give 0 to 2"),
        ({"control_mode": 3}, "control_mode: '3': give 0 to 2, or one of balanced"),
        ({"hr_option": "sometimes"}, "hr_option: 'sometimes': give 0 to 2, or one of both"),
        ({"mask": PICTURE}, "mask: masks of hints are not read"),
        ({"image": {"image": PICTURE, "mask": PICTURE}}, "mask: masks of hints are not read"),
        ({"image": [PICTURE, PICTURE]}, "mask: masks of hints are not read"),
        ({"image": [{"image": PICTURE}, {"image": PICTURE}]}, "image: several images"),
        ({"image": 5}, "image is no text"),
        ({"advanced_weighting": [1, 0]}, "advanced_weighting: weights by layer"),
        ({"batch_images": "/etc"}, "batch_images: folders of the server"),
        ({"input_mode": "batch"}, "input_mode: 'batch' is not taken"),
        ({"union_control_type": "Smell"}, "union_control_type: 'Smell': choose one of Canny"),
        ({"enabled": "perhaps"}, "enabled: true or false is needed"),
    ],
)
def test_what_is_not_done_is_refused_by_unit_and_field(fields: dict[str, Any], message: str) -> None:
    assert refused(None, {**UNIT, **fields}).startswith(f"ControlNet unit 1: {message}")


def test_what_are_no_units_is_refused() -> None:
    assert refused("canny") == "ControlNet unit 0: args: it is no object with the fields of a unit"
    assert refused(*[UNIT] * 11) == "ControlNet: 11 units are enabled; at most 10 act at once"
    assert len(steering(text(*[UNIT] * 10))["controls"]) == 10
