"""Units of A1111's ControlNet extension in infotexts, as published images carry them."""

from __future__ import annotations

import pytest

from atelier.api.sdapi import translate
from atelier.api.sdapi.bodies import Txt2Img
from atelier.request.controls import parse_control, parse_face, parse_reference
from atelier.request.infotext import read, to_request
from atelier.request.infotext import settings as infotext_settings
from atelier.request.infotext.units import OPTIONS, lacking
from atelier.request.resolved import AllOver, ImageRef, InNetwork, NetworkRef, ResolvedExample, ResolvedReference
from atelier.vision.annotate import annotators
from fakes.a1111 import LISTED
from resolved_support import PROVENANCE, RESOLVED, changed

PARAMETERS = "a cat\nSteps: 5, Sampler: Euler, Seed: 1, Size: 64x64, "
TOLD = "{}: its image is in no infotext, so it does not act: give it again, {} '{}'"
NEW = (
    'ControlNet 0: "Module: canny, Model: control_v11p_sd15_canny [d14c016b], Weight: 0.8, Resize Mode: Resize and '
    "Fill, Processor Res: 512, Threshold A: 100.0, Threshold B: 200.0, Guidance Start: 0.1, Guidance End: 0.9, Pixel "
    'Perfect: False, Control Mode: My prompt is more important, Hr Option: Both"'
)


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (
            NEW,
            (
                'canny:IMAGE:0.8 start=0.1 end=0.9 model="control_v11p_sd15_canny [d14c016b]" '
                "mode=prompt annotator=canny "
                "resize=fill resolution=512 low=100 high=200"
            ),
        ),
        (
            (
                'ControlNet 0: "Module: dw_openpose_full, Model: control_v11p_sd15_openpose '
                "[cab727d4], Weight: 1, Resize "
                "Mode: Crop and Resize, Low Vram: False, Processor Res: 512, Guidance Start: 0, Guidance End: 1, Pixel "
                'Perfect: True, Control Mode: Balanced, Save Detected Map: True"'
            ),
            'dw_openpose_full:IMAGE:1 model="control_v11p_sd15_openpose [cab727d4]" annotator=dw_openpose_full',
        ),
        (
            (
                'ControlNet 0: "preprocessor: openpose, model: control_v11p_sd15_openpose [cab727d4], weight: 1, '
                "starting/ending: (0, 0.5), resize mode: Just Resize, pixel perfect: False, "
                "control mode: ControlNet is "
                'more important, preprocessor params: (512, 64, 64)"'
            ),
            (
                'openpose:IMAGE:1 end=0.5 model="control_v11p_sd15_openpose [cab727d4]" '
                "mode=control annotator=openpose "
                "resize=stretch resolution=512"
            ),
        ),
        (
            (
                'ControlNet 0: "Module: tile_resample, Model: control_v11f1e_sd15_tile_fp16 [3b860298], Weight: 0.6, '
                "Resize Mode: Crop and Resize, Processor Res: 512, Threshold A: 1.0, Threshold "
                "B: 0.5, Guidance Start: 0.0, "
                'Guidance End: 1.0, Pixel Perfect: True, Control Mode: Balanced"'
            ),
            'tile_resample:IMAGE:0.6 model="control_v11f1e_sd15_tile_fp16 [3b860298]" annotator=tile_resample rate=1',
        ),
        (
            (
                "ControlNet Enabled: True, ControlNet Module: canny, ControlNet Model: control_canny-fp16 [e3fe7712], "
                "ControlNet Weight: 0.75, ControlNet Guidance Strength: 0.5"
            ),
            'canny:IMAGE:0.75 end=0.5 model="control_canny-fp16 [e3fe7712]" annotator=canny',
        ),
        (
            "ControlNet-0 Enabled: True, ControlNet-0 Module: none, ControlNet-0 Model: control_depth-fp16 [4b72d323]",
            'depth:IMAGE:1 model="control_depth-fp16 [4b72d323]" annotator=none',
        ),
    ],
)
def test_a_unit_is_told_as_the_control_that_it_is(pairs: str, told: str) -> None:
    found = read(PARAMETERS + pairs)
    assert lacking(found) == (TOLD.format("ControlNet 0", "--control", told),)
    assert parse_control(told).image == "IMAGE"
    assert to_request(found).steering.controls == ()


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        (
            (
                "Module: tile_resample, Model: tile, Weight: 0.6, Resize Mode: 2, Threshold A: 1, Threshold B: 1, "
                "Pixel Perfect: True, Control Mode: 1, Hr Option: HiResFixOption.LOW_RES_ONLY"
            ),
            "tile_resample:IMAGE:0.6 model=tile pass=first mode=prompt annotator=tile_resample resize=fill rate=1",
        ),
        (
            (
                "Module: mlsd, Model: mlsd, Processor Res: 640, Threshold A: 0.2, Threshold B: 0.3, Resize Mode: "
                "ResizeMode.RESIZE, Control Mode: ControlMode.CONTROL, Hr Option: 2"
            ),
            (
                "mlsd:IMAGE:1 model=mlsd pass=second mode=control annotator=mlsd resize=stretch resolution=640 "
                "score=0.2 length=0.3"
            ),
        ),
        (
            (
                "Module: none, Model: xinsir-controlnet-union-sdxl-promax [9460e4db], Union Control Type: "
                "ControlNetUnionControlType.SOFT_EDGE"
            ),
            'softedge:IMAGE:1 model="xinsir-controlnet-union-sdxl-promax [9460e4db]" annotator=none',
        ),
        ("Module: none, Model: kohya_xl_canny_anime", "canny:IMAGE:1 model=kohya_xl_canny_anime annotator=none"),
        ("Module: none, Model: promax", "hint:IMAGE:1 model=promax annotator=none"),
    ],
)
def test_units_of_other_programs_and_numbers_are_understood(inner: str, told: str) -> None:
    """A1111 writes words, Forge the names of its enumerations, callers of its API numbers."""
    assert lacking(read(f'{PARAMETERS}ControlNet 0: "{inner}"')) == (TOLD.format("ControlNet 0", "--control", told),)
    assert parse_control(told).image == "IMAGE"


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        ("Weight: 0.7, Threshold A: 0.25", "IMAGE:0.7 method=example fidelity=0.25"),
        ("Weight: 2, Guidance End: 0.5", "IMAGE:1 end=0.5 method=example fidelity=0.5"),
        ("Control Mode: My prompt is more important", "IMAGE:1 method=example fidelity=0"),
        ("Control Mode: ControlNet is more important", "IMAGE:1 method=example fidelity=1"),
    ],
)
def test_reference_only_is_told_as_an_example(inner: str, told: str) -> None:
    found = read(f'{PARAMETERS}ControlNet 0: "Module: reference_only, Model: None, {inner}"')
    assert lacking(found) == (TOLD.format("ControlNet 0", "--reference", told),)
    assert parse_reference(told).method == "example"


def test_both_units_of_instant_id_are_one_face() -> None:
    units = (
        'ControlNet 0: "Module: instant_id_face_embedding, Model: ip_id, Weight: 0.8", '
        'ControlNet 1: "Module: instant_id_face_keypoints, Model: control_id, Weight: 0.4"'
    )
    told = "IMAGE:0.8 model=ip_id lora=0 control=control_id control_weight=0.4"
    assert lacking(read(PARAMETERS + units)) == (TOLD.format("ControlNet 0", "--face", told),)
    assert parse_face(told).control == "control_id"
    alone = lacking(read(f"{PARAMETERS}{units.partition(', ControlNet 1')[0]}"))
    assert alone == (TOLD.format("ControlNet 0", "--face", "IMAGE:0.8 model=ip_id lora=0 control=none"),)


def test_image_prompts_are_told_as_references() -> None:
    pairs = 'ControlNet 1: "Module: ip-adapter_clip_sd15, Model: ip-adapter_sd15 [6a3f6166], Weight: 0.6"'
    text = 'IMAGE:0.6 model="ip-adapter_sd15 [6a3f6166]"'
    assert lacking(read(PARAMETERS + pairs)) == (TOLD.format("ControlNet 1", "--reference", text),)
    assert parse_reference(text).weight == 0.6


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        ("Module: CLIP-ViT-H (IPAdapter), Model: ip_sd15, Weight: 0.6", ("--reference", "IMAGE:0.6 model=ip_sd15")),
        ("Module: InsightFace+CLIP-H (IPAdapter), Model: ip_sd15", ("--reference", "IMAGE:1 model=ip_sd15")),
        ("Module: InsightFace+CLIP-H (IPAdapter), Model: faceid", ("--face", "IMAGE:1 model=faceid lora=0")),
        ("Module: InsightFace (InstantID), Model: ip_id", ("--face", "IMAGE:1 model=ip_id lora=0 control=none")),
    ],
)
def test_modules_of_forge_are_understood(unit: str, told: tuple[str, str]) -> None:
    assert lacking(read(f'{PARAMETERS}ControlNet 0: "{unit}"')) == (TOLD.format("ControlNet 0", *told),)


def test_a_unit_with_a_face_is_told() -> None:
    pairs = 'ControlNet 0: "Module: ip-adapter_face_id, Model: ip-adapter-faceid_sd15 [6e14fc1a], Weight: 0.6"'
    text = 'IMAGE:0.6 model="ip-adapter-faceid_sd15 [6e14fc1a]" lora=0'
    assert lacking(read(PARAMETERS + pairs)) == (TOLD.format("ControlNet 0", "--face", text),)


def test_several_units_are_a_line_each_and_those_that_are_off_none() -> None:
    pairs = 'ControlNet 0: "Module: canny", ControlNet 1: "Module: depth, Model: None", ControlNet 2: "Module: none"'
    assert [line[:13] for line in lacking(read(PARAMETERS + pairs))] == ["ControlNet 0:", "ControlNet 1:"]
    off = "ControlNet Enabled: False, ControlNet Module: canny"
    assert lacking(read(PARAMETERS + off)) == lacking(read(PARAMETERS + "Model: x")) == ()


@pytest.mark.parametrize("own", ['Controls: "canny:a.png:1"', 'References: "a.png:1"'])
def test_where_controls_are_said_units_say_nothing(own: str) -> None:
    assert lacking(read(f"{PARAMETERS}{NEW}, {own}")) == ()


@pytest.mark.parametrize(
    "inner", ["", "x", "Weight: many, Module: canny", "Module: (((, Model: ,,,", '\\"', "Module: " + "(" * 5000]
)
def test_nonsense_is_read_without_a_fault(inner: str) -> None:
    for line in lacking(read(f'{PARAMETERS}ControlNet 0: "{inner}"')):
        assert "\n" not in line


def test_thresholds_are_the_options_of_annotators() -> None:
    for module, names in OPTIONS.items():
        assert tuple(option.name for option in annotators()[module].options[:2]) == names


def test_an_infotext_that_is_pasted_tells_of_its_units() -> None:
    def told(**body: object) -> tuple[str, ...]:
        sent = Txt2Img.model_validate({"infotext": PARAMETERS + NEW, **body})
        return translate.txt2img(sent, LISTED, {}, lambda: 7).warnings

    (line,) = told()
    assert line.startswith(
        "infotext: ControlNet 0: its image is in no infotext, so it does not act: give it again, controls '"
    )
    assert told(alwayson_scripts={"controlnet": {"args": []}}) == ()


SEEN = ImageRef(path="a.png", sha256="01" * 32)
SPAN = {"image": SEEN, "weight": 0.5, "start": 0.25, "end": 0.75, "passes": "first"}


def test_an_infotext_says_all_of_what_steers() -> None:
    """Every part of an image prompt, with and without a network, that is not as usual."""
    network = NetworkRef(name="net", path="net.pth", sha256="ef" * 32)
    reference = ResolvedReference(
        network=network, encoder=InNetwork(file=network), place=AllOver(), blocks=(("up.1", 0.5),), **SPAN
    )
    steering = (reference, ResolvedExample(fidelity=0.125, **SPAN))
    made = infotext_settings(changed(RESOLVED, steering=steering), 0, RESOLVED.sampling, PROVENANCE)
    assert (made.references or "").splitlines() == [
        'a.png:0.5 start=0.25 end=0.75 model="net [efefefefef]" pass=first blocks=up.1=0.5',
        "a.png:0.5 start=0.25 end=0.75 pass=first method=example fidelity=0.125",
    ]
