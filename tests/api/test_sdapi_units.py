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
        ({"weight": 0.5, "advanced_weighting": [1, "0.25", 0]}, ":1 model="),
        ({"weight": 0.5, "advanced_weighting": [1, "0.25", 0]}, " layers=1,0.25,0 "),
        ({"advanced_weighting": []}, ":1 model="),
        ({"control_mode": "ControlNet is more important"}, " mode=control "),
        ({"control_mode": "My prompt is more important"}, " mode=prompt "),
        ({"guessmode": True}, " mode=control "),
        ({"resize_mode": 0}, " resize=stretch "),
        ({"resize_mode": "Just Resize"}, " resize=stretch "),
        ({"resize_mode": 2}, " resize=fill "),
        ({"resize_mode": "Outer Fit (Shrink to Fit)"}, " resize=fill "),
        ({"resize_mode": "Envelope (Outer Fit)"}, " resize=fill "),
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


@pytest.mark.parametrize(("option", "said"), [("Low res only", "pass=first"), (2, "pass=second")])
def test_the_pass_is_of_two(option: Any, said: str) -> None:
    """With one alone a unit acts in it, as in A1111."""
    unit = {**UNIT, "hr_option": option}
    (control,) = steering(text(unit, enable_hr=True, hr_scale=2))["controls"]
    assert f" {said} " in control
    for asked in (text(unit), image(unit)):
        assert steering(asked) == {"controls": [USUAL]}
        assert asked.warnings == ()


def test_what_a1111_never_reads_is_not_read() -> None:
    """Its preprocessor has numbers of its own, whatever a unit says."""
    lines = {**UNIT, "module": "lineart_standard", "threshold_a": 2, "threshold_b": 900}
    asked = text(lines)
    (control,) = steering(asked)["controls"]
    assert "=2" not in control
    assert "sigma" not in control
    assert asked.warnings == ()


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
        ({"module": "none", "model": "mine", "union_control_type": "Normal Map"}, "normal"),
        ({"module": "none", "model": "mine", "union_control_type": "Soft Edge"}, "softedge"),
        ({"module": "none", "model": "mine", "union_control_type": "Hard Edge"}, "canny"),
        ({"module": "tile_resample", "model": "mine", "threshold_a": 2}, "tile"),
        ({"module": "normal_from_depth", "model": "mine"}, "normal"),
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
    for module in (
        *("ip-adapter-auto", "ip-adapter_clip_sdxl", "ip-adapter_clip_sdxl_plus_vith", "ip-adapter_clip_h"),
        *("CLIP-ViT-H (IPAdapter)", "CLIP-ViT-bigG (IPAdapter)", "InsightFace+CLIP-H (IPAdapter)"),
    ):
        assert list(steering(text({**unit, "module": module}))) == ["references"]


def test_several_images_of_a_unit_are_units_or_one_prompt() -> None:
    """As A1111 unfolds them; what reads images reads them together."""
    several = [{"image": PICTURE}, [PICTURE, None], {"image": PICTURE}]
    asked = text({**UNIT, "image": several})
    assert steering(asked) == {"controls": [USUAL.replace("unit0", own) for own in ("unit0", "unit0-1", "unit0-2")]}
    assert {name.partition(".")[0] for name in asked.images} == {"unit0", "unit0-1", "unit0-2"}
    unit = {**UNIT, "module": "ip-adapter-auto", "model": "ip-adapter_sd15", "image": several[:2], "weight": 0.6}
    assert steering(text(unit)) == {
        "references": ["upload:unit0.image:0.6 model=ip-adapter_sd15", "upload:unit0-1.image with=previous"]
    }
    posed = steering(text({**FACE_UNIT, "image": several[:2]}, POSE_UNIT))["faces"]
    assert posed == [POSED.format(0, 1), "upload:unit0-1.image with=previous"]


def test_units_with_faces_are_faces() -> None:
    """The LoRA of FaceID is a tag's in A1111."""
    unit = {**UNIT, "module": "ip-adapter_face_id_plus", "model": "ip-adapter-faceid-plusv2_sd15 [6e14fc1a]"}
    said = "upload:unit0.image:0.6 end=0.5 model=ip-adapter-faceid-plusv2_sd15 lora=0 control=none"
    asked = text({**unit, "weight": 0.6, "guidance_end": 0.5})
    assert steering(asked) == {"faces": [said]}
    assert [own.image for own in asked.maps] == ["unit0.image"]
    for module in ("ip-adapter_face_id", "ip-adapter-auto", "none", "InsightFace+CLIP-H (IPAdapter)"):
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
    assert steering(image(whole, mask=PICTURE, inpaint_full_res=False)) == {"controls": [USUAL]}
    prompt = {**whole, "module": "ip-adapter-auto", "model": "ip-adapter_sd15"}
    assert list(steering(image(prompt, mask=PICTURE))) == ["references"]
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
        ({"module": "reference_adain", "model": "None"}, "module: 'reference_adain': statistics of an image"),
        ({"module": "reference_adain+attn"}, "module: 'reference_adain+attn': statistics of an image"),
        ({"module": "reference_only", "effective_region_mask": PICTURE}, "effective_region_mask: an example acts"),
        ({"module": "reference_only", "mask": PICTURE}, "mask: only inpaint modules read one"),
        ({"module": "inpaint_only+lama"}, "module: 'inpaint_only+lama': there is no LaMa here; inpaint_only makes"),
        ({"module": "inpaint_only", "image": None, "mask": PICTURE}, "image: there is none to leave something out of"),
        ({"module": "inpaint_only"}, "mask: there is none: send what is to be made anew"),
        ({"module": "inpaint_global_harmonious", "mask": PICTURE}, "module: 'inpaint_global_harmonious' works in img2"),
        ({"module": "inpaint", "mask": PICTURE, "model": "ip-adapter_sd15"}, "model: 'ip-adapter_sd15' reads an image"),
        ({"module": "inpaint", "mask": PICTURE, "model": "None"}, "model: none is named"),
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
        ({"mask": PICTURE}, "mask: only inpaint modules read one"),
        ({"image": {"image": PICTURE, "mask": PICTURE}}, "mask: only inpaint modules read one"),
        ({"image": [PICTURE, PICTURE]}, "mask: only inpaint modules read one"),
        ({"effective_region_mask": [{"image": PICTURE}, {"image": PICTURE}]}, "effective_region_mask: several: one is"),
        ({"image": 5}, "image is no text"),
        ({"advanced_weighting": [1, -0.5]}, "advanced_weighting: each can be 0 to 10"),
        ({"advanced_weighting": [1, "much"]}, "advanced_weighting: a number is needed"),
        ({"advanced_weighting": "much"}, "advanced_weighting: Input should be a valid list"),
        (
            {"advanced_weighting": [1], "module": "ip-adapter-auto", "model": "ip-adapter_sd15"},
            "advanced_weighting: only networks that read a hint take it; give weight",
        ),
        (
            {"advanced_weighting": [1], "module": "reference_only", "model": "None"},
            "advanced_weighting: only networks that read a hint take it; give weight",
        ),
        ({"batch_images": "/etc"}, "batch_images: folders of the server"),
        ({"input_mode": "batch"}, "input_mode: 'batch' is not taken"),
        ({"union_control_type": "Smell"}, "union_control_type: 'Smell': choose one of Canny"),
        ({"enabled": "perhaps"}, "enabled: true or false is needed"),
    ],
)
def test_what_is_not_done_is_refused_by_unit_and_field(fields: dict[str, Any], message: str) -> None:
    assert refused(None, {**UNIT, **fields}).startswith(f"ControlNet unit 1: {message}")


INPAINT: dict[str, Any] = {"enabled": True, "module": "inpaint_only", "model": "mine"}
FILLED = "inpaint::1 model=mine annotator=inpaint_only"


def test_an_inpaint_unit_of_img2img_reads_the_image_and_its_mask() -> None:
    """Clients send both again, or leave them out."""
    layered = image({**INPAINT, "advanced_weighting": [2, 1]}, mask=f"data:image/png;base64,{PICTURE}")
    assert steering(layered) == {"controls": ["inpaint::1 model=mine layers=2,1 annotator=inpaint_only"]}
    for own in ({}, {"image": PICTURE, "mask": PICTURE}, {"image": {"image": PICTURE, "mask": PICTURE}}):
        for module in ("inpaint_only", "inpaint", "inpaint_global_harmonious", "Inpaint Only"):
            asked = image({**INPAINT, **own, "module": module}, mask=f"data:image/png;base64,{PICTURE}")
            assert steering(asked) == {"controls": [FILLED]}
            assert asked.images == {"image": PICTURE, "mask": f"data:image/png;base64,{PICTURE}"}
            (fields,) = asked.runs.fields
            assert (fields["image"], fields["mask"], fields["denoising_strength"]) == (
                "upload:image", "upload:mask", 0.75,
            )  # fmt: skip
            assert [own.control for own in asked.maps] == [FILLED]


@pytest.mark.parametrize(
    ("own", "body", "message"),
    [
        ({}, {}, "mask: the request has none"),
        ({"mask": PICTURE}, {}, "mask: the request has none"),
        ({"image": PICTURE[:-8]}, {"mask": PICTURE}, "image: another image than that of the request is not taken"),
        ({"mask": PICTURE[:-8]}, {"mask": PICTURE}, "mask: another mask than that of the request is not taken"),
    ],
)
def test_another_image_than_that_of_img2img_is_refused(own: dict[str, Any], body: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=f"ControlNet unit 0: {message}"):
        image({**INPAINT, **own}, **body)


def test_an_inpaint_unit_of_txt2img_brings_the_image_to_start_from() -> None:
    """From pure noise under the mask, as A1111's inpaint_only does; what is beside it stays."""
    unit = {**INPAINT, "image": PICTURE, "mask_image": "bWFzaw==", "weight": 0.8, "resize_mode": 2}
    asked = text(unit)
    assert steering(asked) == {"controls": ["inpaint::0.8 model=mine annotator=inpaint_only resize=fill"]}
    (fields,) = asked.runs.fields
    brought = ("image", "mask", "denoising_strength", "inpaint_area", "resize_mode")
    assert [fields[name] for name in brought] == [
        "upload:unit0.image", "upload:unit0.mask", 1.0, "Whole picture", "fill",
    ]  # fmt: skip
    assert asked.images == {"unit0.image": PICTURE, "unit0.mask": "bWFzaw=="}
    (own,) = asked.maps
    assert own.control == "inpaint:upload:unit0.image:0.8 model=mine annotator=inpaint_only resize=fill"


def test_the_second_pass_of_an_inpaint_unit_has_the_strength_of_the_body() -> None:
    unit = {**INPAINT, "image": [PICTURE, PICTURE]}
    (fields,) = text(unit, enable_hr=True, denoising_strength=0.4).runs.fields
    assert (fields["denoising_strength"], fields["hires_denoising_strength"]) == (1.0, 0.4)
    (fields,) = text(unit, denoising_strength=0.4).runs.fields
    assert fields["denoising_strength"] == 1.0
    assert "hires_denoising_strength" not in fields


def test_only_one_unit_brings_an_image() -> None:
    unit = {**INPAINT, "image": PICTURE, "mask": PICTURE}
    assert refused(unit, unit) == (
        "ControlNet unit 1: image: unit 0 has brought the image to start from already: send one"
    )
    asked = text({**UNIT, "effective_region_mask": PICTURE}, {**unit, "effective_region_mask": PICTURE})
    assert steering(asked)["controls"][1] == (
        'inpaint::1 model=mine mask="upload:unit1.effective_region_mask" annotator=inpaint_only'
    )
    assert set(asked.images) == {
        "unit0.image", "unit0.effective_region_mask", "unit1.image", "unit1.mask", "unit1.effective_region_mask",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "upload:unit0.image:1 method=example fidelity=0.5"),
        ({"weight": 0.6, "threshold_a": 0.25}, "upload:unit0.image:0.6 method=example fidelity=0.25"),
        ({"weight": 1.5}, "upload:unit0.image:1 method=example fidelity=0.5"),
        ({"threshold_a": 0.25, "control_mode": 1}, "upload:unit0.image:1 method=example fidelity=0"),
        ({"control_mode": "ControlNet is more important"}, "upload:unit0.image:1 method=example fidelity=1"),
        ({"guidance_end": 0.5, "model": "None"}, "upload:unit0.image:1 end=0.5 method=example fidelity=0.5"),
        ({"hr_option": 1}, "upload:unit0.image:1 method=example fidelity=0.5"),
        ({"module": "Reference-only"}, "upload:unit0.image:1 method=example fidelity=0.5"),
    ],
)
def test_reference_only_is_an_example(fields: dict[str, Any], said: str) -> None:
    asked = text({"enabled": True, "module": "reference_only", "image": PICTURE, **fields})
    assert steering(asked) == {"references": [said]}
    assert [own.image for own in asked.maps] == ["unit0.image"]
    assert list(steering(text({"module": "reference_only", "image": PICTURE}))) == ["references"]


def test_a_fidelity_that_cannot_be_is_the_usual_one_and_told() -> None:
    asked = text({"enabled": True, "module": "reference_only", "image": PICTURE, "threshold_a": 64})
    assert steering(asked) == {"references": ["upload:unit0.image:1 method=example fidelity=0.5"]}
    assert asked.warnings == ("ControlNet unit 0: threshold_a: 64 cannot be used; 0.5 is",)


def test_reference_only_of_img2img_looks_at_the_image_to_start_from() -> None:
    asked = image({"enabled": True, "module": "reference_only"})
    assert steering(asked) == {"references": ["upload:image:1 method=example fidelity=0.5"]}
    assert [own.image for own in asked.maps] == ["image"]


def test_what_are_no_units_is_refused() -> None:
    assert refused("canny") == "ControlNet unit 0: args: it is no object with the fields of a unit"
    assert refused(*[UNIT] * 11) == "ControlNet: 11 units are enabled; at most 10 act at once"
    assert len(steering(text(*[UNIT] * 10))["controls"]) == 10
