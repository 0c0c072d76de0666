"""The options of `atelier generate` are the table's, and arrive in the request."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Mapping

import pytest
import typer

from atelier.cli.fields import Command, defaults
from atelier.request.table import FIELDS, flat, request_of

EXPECTED = {
    "--negative": "negative_prompt",
    "--style": "styles",
    "--output": "output",
    "--lenient": "lenient",
    "--model": "model",
    "--steps": "steps",
    "--sampler": "sampler",
    "--scheduler": "scheduler",
    "--cfg-scale": "cfg_scale",
    "--refiner": "refiner",
    "--refiner-switch-at": "refiner_switch_at",
    "--seed": "seed",
    "--rng": "rng",
    "--pag-scale": "pag_scale",
    "--width": "width",
    "--height": "height",
    "--batch-size": "batch_size",
    "--batch-count": "batch_count",
    "--clip-skip": "clip_skip",
    "--emphasis": "emphasis",
    "--strength": "denoising_strength",
    "--image": "image",
    "--resize-mode": "resize_mode",
    "--exact-steps": "exact_steps",
    "--color-correction": "color_correction",
    "--outpaint": "outpaint",
    "--image-cfg-scale": "image_cfg_scale",
    "--mask": "mask",
    "--depth": "depth",
    "--vae": "vae",
    "--text-encoder": "text_encoders",
    "--original-size": "original_size",
    "--crop-top": "crop_top",
    "--crop-left": "crop_left",
    "--target-size": "target_size",
    "--negative-original-size": "negative_original_size",
    "--negative-crop-top": "negative_crop_top",
    "--negative-crop-left": "negative_crop_left",
    "--negative-target-size": "negative_target_size",
    "--aesthetic-score": "aesthetic_score",
    "--negative-aesthetic-score": "negative_aesthetic_score",
    "--mask-blur": "mask_blur",
    "--masked-content": "masked_content",
    "--inpaint-area": "inpaint_area",
    "--soft-inpainting": "soft_inpainting",
    "--control": "controls",
    "--reference": "references",
    "--face": "faces",
    "--region": "regions",
    "--tile": "tile",
    "--views": "view_method",
    "--view-width": "view_width",
    "--view-height": "view_height",
    "--view-overlap": "view_overlap",
    "--sd-upscale": "sd_upscale_factor",
    "--hires": "hires_upscale",
    "--hires-steps": "hires_steps",
    "--hires-upscaler": "hires_upscaler",
    "--hires-strength": "hires_denoising_strength",
}
VALUES = {"int": ("64", 64), "float": ("0.5", 0.5), "text": ("nv", "nv"), "size": ("640x480", "640x480")}


def said(*arguments: str) -> Mapping[str, object]:
    """What a command with the table's options is given."""
    seen: list[Mapping[str, object]] = []

    def run(fields: Mapping[str, object], *, more: int = 0) -> None:
        """Help."""
        seen.append({**fields, "more": more})

    app = typer.Typer(add_completion=False)
    app.command("x")(Command(run))
    app(arguments, standalone_mode=False)
    return seen[0]


def test_what_is_not_said_is_not_given():
    assert said() == {"more": 0}
    assert defaults() == {"output": "outputs"}


@pytest.mark.parametrize(("option", "name"), EXPECTED.items())
def test_every_option_fills_its_field(option: str, name: str):
    field = FIELDS[name]
    if field.kind == "flag":
        assert said(option)[name] is True
    elif field.kind == "texts":
        assert said(option, "a", option, "b")[name] == ["a", "b"]
    else:
        text, value = VALUES[field.kind if name != "clip_skip" else "int"]
        assert said(option, text)[name] == value


def test_the_options_are_those_of_the_table():
    assert {f.name for f in FIELDS.values() if f.option is not None} == {*EXPECTED.values(), "prompt"}
    assert said("a cat", "-o", "x", "--more", "3") == {"prompt": "a cat", "output": "x", "more": 3}


def test_lists_of_the_command_line_are_tuples_in_the_request():
    given = said("a cat", "--style", "a")
    request = request_of({name: value for name, value in given.items() if name != "more"})
    assert flat(request)["styles"] == ("a",)


def test_the_help_is_the_functions():
    def run(fields: Mapping[str, object]) -> None:
        """Do something."""

    command = Command(run)
    assert inspect.getdoc(command) == "Do something."


def test_help_loads_no_torch():
    code = (
        "import sys\nfrom atelier.cli.app import run\n"
        "assert run(['generate', '--help']) == 0\nsys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(panel in done.stdout for panel in ("Prompt", "Model and sampling", "Size and number", "Output"))
