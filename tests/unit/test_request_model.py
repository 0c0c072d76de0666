"""A request is within its limits or does not exist."""

from __future__ import annotations

import base64
import io
import math
import subprocess
import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import get_type_hints

import pytest
from PIL import Image
from pydantic import ValidationError

from atelier.errors import BadInput
from atelier.request.controls import parse_control, parse_face, parse_reference
from atelier.request.groups import Guidance, Hires, Noise, Prompting, Sampling, Source, groups_of
from atelier.request.model import Request
from atelier.request.pictures import Picture, Pictured
from atelier.request.regions import parse_region
from atelier.request.table import FIELDS, Fields, flat, given, request_of


def test_what_is_not_said_is_left_open():
    request = Request(prompt="a cat")
    assert (request.model, request.steps, request.seed, request.width, request.output) == (None,) * 5
    assert (request.batch_size, request.batch_count, request.negative_prompt) == (1, 1, "")


LIMITS = {
    "steps": (1, 1000),
    "cfg_scale": (0, 100),
    "seed": (-1, 2**64 - 1),
    "width": (64, 4096),
    "height": (64, 4096),
    "batch_size": (1, 64),
    "batch_count": (1, 1000),
    "clip_skip": (1, 12),
    "cfg_rescale": (0, 1),
    "skip_early_cfg": (0, 1),
    "ngms": (0, 1000),
    "pag_scale": (0, 100),
    "sag_scale": (0, 100),
    "sag_blur_sigma": (0.1, 100),
    "apg_eta": (-10, 10),
    "apg_norm_threshold": (0, 10_000),
    "apg_momentum": (-1, 1),
    "mimic_scale": (0, 100),
    "mimic_percentile": (0, 100),
    "mimic_phi": (0, 1),
    "perp_neg_scale": (0, 100),
    "slg_scale": (0, 100),
    "freeu_b1": (0, 100),
    "freeu_b2": (0, 100),
    "freeu_s1": (0, 100),
    "freeu_s2": (0, 100),
    "cfg_interval_low": (0, 1000),
    "cfg_interval_high": (0, 10**9),
    "clip_guidance_scale": (0, 10**6),
    "variation_seed": (-1, 2**64 - 1),
    "variation_strength": (0, 1),
    "refiner_switch_at": (0, 1),
    "ensd": (-(2**63), 2**63),
    "eta": (0, 100),
    "eta_ddim": (0, 100),
    "s_churn": (0, 1000),
    "s_tmin": (0, 1000),
    "s_tmax": (0, 10**9),
    "s_noise": (0, 100),
    "sigma_min": (0, 1000),
    "sigma_max": (0, 1000),
    "rho": (0, 100),
    "beta_alpha": (0.01, 100),
    "beta_beta": (0.01, 100),
    "unipc_order": (1, 12),
    "denoising_strength": (0, 1),
    "hires_upscale": (1, 16),
    "hires_steps": (0, 1000),
    "hires_cfg_scale": (0, 100),
    "hires_denoising_strength": (0, 1),
    "noise_multiplier": (0, 100),
    "extra_noise": (0, 100),
    "mask_blur": (0, 256),
    "masked_area_padding": (0, 65_536),
    "image_cfg_scale": (0, 100),
    "noise_level": (0, 350),
    "conditional_mask_weight": (0, 1),
    "soft_inpainting_schedule_bias": (0, 100),
    "soft_inpainting_preservation_strength": (0, 100),
    "soft_inpainting_transition_contrast_boost": (1, 100),
    "soft_inpainting_mask_influence": (0, 1),
    "soft_inpainting_difference_threshold": (0, 100),
    "soft_inpainting_difference_contrast": (0, 100),
    "crop_top": (0, 65_536),
    "crop_left": (0, 65_536),
    "negative_crop_top": (0, 65_536),
    "negative_crop_left": (0, 65_536),
    "aesthetic_score": (0, 100),
    "negative_aesthetic_score": (0, 100),
    "region_ground": (0, 1),
    "sd_upscale_factor": (1, 16),
    "postprocess_upscale_by": (0.01, 16),
    "postprocess_upscaler_2_visibility": (0, 1),
    "sd_upscale_overlap": (0, 4096),
    "view_width": (64, 4096),
    "view_height": (64, 4096),
    "view_overlap": (0, 4096),
}
"""What numbers may be, typed here once more."""
IMAGES = {"prompt": "", "image": "a.png", "mask": "b.png", "view_method": "mixture"}
"""Fields that the groups of others need."""


def test_every_number_is_in_the_list_of_this_test():
    assert {f.name for f in FIELDS.values() if f.kind in {"int", "float"}} == LIMITS.keys()


@pytest.mark.parametrize("name", LIMITS)
def test_limits_hold_on_both_sides(name: str):
    low, high = LIMITS[name]
    for good in (low, high):
        assert flat(request_of({**IMAGES, name: good}))[name] == good
    for bad in (low - 1, high + 1):
        with pytest.raises(BadInput) as caught:
            request_of({**IMAGES, name: bad})
        message = str(caught.value)
        assert message.startswith(f"{name} {bad}: ")
        assert f"from {low} to {high}" in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cfg_scale": math.nan}, ("cfg_scale nan", "from 0 to 100")),
        ({"cfg_scale": math.inf}, ("cfg_scale inf", "from 0 to 100")),
        ({"steps": "many"}, ("steps 'many'", "whole number")),
        ({"steps": 2.5}, ("steps 2.5", "whole number")),
        ({"width": 100}, ("width 100", "multiple of 8", "96 or 104")),
        ({"height": 65}, ("height 65", "64 or 72")),
        ({"height": 4095}, ("height 4095", "4088 or 4096")),
        ({"widht": 64}, ("'widht'", "width")),
        ({"prompt": "a \udcff"}, ("prompt", "'\\udcff'", "position 2")),
        ({"negative_prompt": "\0"}, ("negative_prompt", "'\\x00'")),
        ({"prompt": 7}, ("prompt 7",)),
        ({"rng": "dice"}, ("rng 'dice'", "'portable', 'cpu' or 'nv'")),
        ({"negative_prompt": "x" * 500_000, "steps": 0}, ("steps 0",)),
        ({"etta": 0.5}, ("'etta'", "did you mean eta")),
        ({"sampling": {"eta": 0.5}}, ("sampling is a group", "name one of its fields (eta, eta_ddim, ")),
        ({"seed_resize": (64, -1)}, ("seed_resize -1", "512x768", "0 to 4096")),
        ({"hires_resize": "large"}, ("hires_resize 'large'", "512x768")),
        ({"hires_steps": 2.5}, ("hires_steps 2.5", "whole number from 0 to 1000")),
        ({"s_noise": math.nan}, ("s_noise nan", "a number from 0 to 100")),
    ],
)
def test_bad_values_are_one_line_that_names_them(fields: dict[str, object], words: tuple[str, ...]):
    with pytest.raises(BadInput) as caught:
        request_of({"prompt": "a cat", **fields})
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"eta": 0.5}, "unknown field 'eta': it is a field of the group 'sampling'"),
        ({"hires_steps": 5}, "unknown field 'hires_steps': it is a field of the group 'hires'"),
        ({"widht": 5}, "unknown field 'widht': did you mean width"),
        ({"sampling": {"eta": -1}}, "eta -1: must be a number from 0 to 100"),
        ({"sampling": {"etta": 1}}, "unknown field 'etta': did you mean eta"),
        ({"sampling": 3}, "sampling 3: "),
        ({"source": {"resize_mode": "crop"}}, "image is missing: give --image"),
        ({"inpaint": {"mask_blur": 2}}, "mask is missing: give --mask"),
        ({"views": {"width": 64}}, "view_method is missing: give --views"),
        ({}, "prompt is missing"),
    ],
)
def test_groups_are_checked_as_the_request_is(fields: dict[str, object], words: str):
    with pytest.raises(BadInput) as caught:
        Request.model_validate(fields if not fields else {"prompt": "", **fields})
    assert str(caught.value).startswith(words)


def test_fields_find_their_groups():
    request = request_of({"prompt": "p", "eta": "0.5", "hires_steps": 5, "styles": ("a",), "rng": "nv", "ngms": 1})
    assert request == Request(
        prompt="p",
        sampling=Sampling(eta=0.5),
        hires=Hires(steps=5),
        prompting=Prompting(styles=("a",)),
        noise=Noise(rng="nv"),
        guidance=Guidance(ngms=1),
    )
    assert given(request) == {"prompt", "eta", "hires_steps", "styles", "rng", "ngms"}
    assert request_of({"prompt": "p"}).hires is None


def test_what_is_flat_is_the_same_request():
    some = {"eta": 0.5, "hires_steps": 5, "seed_resize": (64, 128), "output": Path("x")}
    request = request_of({**IMAGES, "sd_upscale_factor": 2.0, "postprocess_upscale_by": 2.0, **some})
    assert request_of(flat(request)) == request
    assert request.output == "x"
    assert flat(request).keys() == FIELDS.keys()


def test_sizes_and_paths_are_taken_as_people_write_them():
    said = request_of({"prompt": "512x768", "seed_resize": " 64X128", "hires_resize": "512x0", "original_size": [8, 9]})
    assert said.prompt == "512x768"
    assert (said.noise.seed_resize, said.sizes.original_size) == ((64, 128), (8, 9))
    assert said.hires is not None
    assert said.hires.resize == (512, 0)
    named = request_of({"prompt": "p", "image": Path("in/a.png"), "mask": Path("m.png"), "model": Path("models/x")})
    assert named.source is not None
    assert named.inpaint is not None
    assert (named.source.image, named.inpaint.mask, named.model) == ("in/a.png", "m.png", "models/x")


def test_images_in_memory_are_taken_where_files_are(tmp_path: Path):
    image, mask = Image.new("RGBA", (3, 2), (1, 2, 3, 4)), Image.new("1", (2, 2))
    depth = Image.new("I;16", (2, 2), 40000)
    said = request_of({"prompt": "p", "image": image, "mask": mask, "depth": depth})
    assert said.source is not None
    assert said.inpaint is not None
    assert said.depth is not None
    for text, own in ((said.source.image, image), (said.inpaint.mask, mask), (said.depth, depth)):
        assert text.startswith("data:image/png;base64,")
        back = Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2])))
        assert (back.mode, back.tobytes()) == (own.mode, own.tobytes())
    assert Request(prompt="p", source=Source(image=image)).source == said.source  # pyright: ignore[reportArgumentType] - typed as text
    with pytest.raises(BadInput, match="an image of the mode CMYK cannot be sent as a PNG: convert it to RGB"):
        request_of({"prompt": "p", "image": Image.new("CMYK", (2, 2))})
    with pytest.raises(BadInput, match="model <PIL"):
        request_of({"prompt": "p", "model": image})


def test_texts_name_images_in_memory():
    """By the word IMAGE, or by words of one's own; where there is none, or two, that is told."""
    red, grey = Image.new("RGB", (2, 2), "red"), Image.new("L", (2, 2), 9)
    reds, greys = (base64.b64encode(_png(own)).decode() for own in (red, grey))
    said = request_of(
        {
            "prompt": "p",
            "controls": [("canny:IMAGE:0.8 end=0.5", red), "depth:d.png", ("canny:A mask=B", {"A": red, "B": grey})],
            "references": (("IMAGE:0.6", red),),
            "faces": (("a.png pose=IMAGE", grey),),
            "regions": (("mask=IMAGE: a MASK", grey),),
        }
    )
    first, second, third = map(parse_control, said.steering.controls)
    assert (first.image, first.weight, first.end) == (f"data:image/png;base64,{reds}", 0.8, 0.5)
    assert second.image == "d.png"
    assert (third.image, third.mask) == (f"data:image/png;base64,{reds}", f"data:image/png;base64,{greys}")
    assert parse_reference(said.steering.references[0]).image == first.image
    assert parse_face(said.steering.faces[0]).pose == third.mask
    assert parse_region(said.layout.regions[0]).prompt == "a MASK"
    for text, count in (("canny:0.8", 0), ("canny:IMAGE.png", 0), ("canny:my/IMAGE", 0), ("canny:IMAGE mask=IMAGE", 2)):
        with pytest.raises(BadInput, match=rf"controls: '{text}': IMAGE stands there {count} times: write it once"):
            request_of({"prompt": "p", "controls": ((text, red),)})
    for other in (3, {"IMAGE": 3}, {"IMAGE": red, "MASK": 3}):
        with pytest.raises(BadInput, match=r"controls .*IMAGE"):
            request_of({"prompt": "p", "controls": (("canny:IMAGE", other),)})


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


FILES = {"model", "vae", "refiner", "output", "depth", "image", "mask", "hires_checkpoint"}
IN_MEMORY = {"depth", "image", "mask"}
WITH_IMAGES = {"controls", "references", "faces", "regions"}


def test_signatures_name_every_field():
    """`Fields` is what Python users see of the table."""
    assert ["prompt", *get_type_hints(Fields)] == list(FIELDS)
    said = get_type_hints(Fields, include_extras=True)
    for field in FIELDS.values():
        owner = Request if field.group is None else dict(groups_of(Request))[field.group]
        if field.name == "prompt":
            continue
        kind = get_type_hints(owner, include_extras=True)[field.own]
        kind = kind | PathLike[str] if field.name in FILES else kind
        kind = kind | Picture if field.name in IN_MEMORY else kind
        kind = kind | Sequence[str | Pictured] if field.name in WITH_IMAGES else kind
        assert said[field.name] == kind, field.name


def test_a_request_does_not_change():
    request = Request(prompt="a cat")
    with pytest.raises(ValidationError):
        request.steps = 3


def test_its_schema_carries_the_limits_and_the_help():
    schema = Request.model_json_schema()
    steps = schema["properties"]["steps"]
    assert (steps["anyOf"][0]["minimum"], steps["anyOf"][0]["maximum"]) == (1, 1000)
    assert steps["description"] == "Steps of the sampler."
    churn = schema["$defs"]["Sampling"]["properties"]["s_churn"]
    assert (churn["minimum"], churn["maximum"], churn["default"]) == (0, 1000, 0)
    groups = (schema, *(schema["$defs"][kind.__name__] for _, kind in groups_of(Request)))
    own = {name for name, _ in groups_of(Request)}
    assert all(p.get("description") for g in groups for n, p in g["properties"].items() if n not in own)


def test_torch_is_not_imported():
    code = (
        "import sys, atelier, atelier.request.model, atelier.request.resolve, atelier.request.events,"
        "atelier.request.infotext, atelier.cli.app; atelier.Request(prompt='x');"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
