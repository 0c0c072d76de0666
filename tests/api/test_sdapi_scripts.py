"""The scripts of A1111's menu: which requests they become."""

from __future__ import annotations

from typing import Any

import pytest

from atelier.api.errors import Refused
from atelier.api.sdapi import translate
from atelier.api.sdapi.bodies import Img2Img, Txt2Img
from atelier.api.sdapi.plot import offered
from atelier.api.sdapi.translate import Asked
from fakes.a1111 import LISTED, PICTURE


def text(name: str, args: list[Any], **body: Any) -> Asked:
    sent = {"prompt": "a cat", "script_name": name, "script_args": args, **body}
    return translate.txt2img(Txt2Img.model_validate(sent), LISTED, {}, lambda: 77)


def image(name: str, args: list[Any], **body: Any) -> Asked:
    sent = {"prompt": "a cat", "init_images": [PICTURE], "script_name": name, "script_args": args, **body}
    return translate.img2img(Img2Img.model_validate(sent), LISTED, {}, lambda: 77)


def column(asked: Asked, *names: str) -> list[Any]:
    rows = [tuple(fields.get(name) for name in names) for fields in asked.runs.fields]
    return [row[0] for row in rows] if len(names) == 1 else rows


def message(call: Any, *args: Any, **body: Any) -> str:
    with pytest.raises(Refused) as caught:
        call(*args, **body)
    assert caught.value.problem.status == 422
    return caught.value.problem.message


def test_names() -> None:
    assert message(text, "Nobody's", []) == "Script 'Nobody's' not found"
    assert message(text, "SD upscale", []) == "Script 'SD upscale' not found"
    assert message(image, "img2img alternative test", []) == "Script 'img2img alternative test' not found"
    for none in ("", "None", "  "):
        assert len(text(none, []).runs.fields) == 1


def test_sd_upscale() -> None:
    """A1111's own test sends these arguments."""
    (fields,) = image("sd upscale", ["", 8, "Lanczos", 2.0]).runs.fields
    assert fields["sd_upscale_factor"] == 2.0
    assert fields["sd_upscale_overlap"] == 8
    assert fields["sd_upscale_upscaler"] == "Lanczos"
    (by_number,) = image("SD upscale", ["", "8", 2]).runs.fields
    assert (by_number["sd_upscale_upscaler"], by_number["sd_upscale_factor"]) == ("R-ESRGAN 4x+", 2.0)
    assert "script_args[2]" in message(image, "SD upscale", ["", 8, 99])
    assert "script_args[3]" in message(image, "SD upscale", ["", 8, "Lanczos", "large"])


def test_outpainting() -> None:
    (fields,) = image("Outpainting mk2", ["", 64, 8, ["down", "left"], 1.0, 0.05]).runs.fields
    assert fields["outpaint"] == "left=64,bottom=64"
    assert "width" not in fields
    (poor,) = image("Poor man's outpainting", [32]).runs.fields
    assert poor["outpaint"] == "left=32,right=32,top=32,bottom=32"
    assert "directions" in message(image, "Outpainting mk2", ["", 64, 8, ["sideways"]])
    assert "directions" in message(image, "Outpainting mk2", ["", 64, 8, 5])


def test_loopback() -> None:
    asked = image("Loopback", [3, 0.25, "Linear", "None"], seed=10)
    assert asked.runs.loops is not None
    assert column(asked, "seed", "denoising_strength") == [(10, 0.75), (11, 0.5), (12, 0.25)]
    assert column(asked, "color_correction") == [True] * 3
    assert asked.runs.extra == {"Final denoising strength": 0.25, "Denoising curve": "Linear"}
    early = column(image("Loopback", [3, 0.25, "Aggressive"]), "denoising_strength")
    late = column(image("Loopback", [3, 0.25, "Lazy"]), "denoising_strength")
    assert early[1] == pytest.approx(0.75 - 0.5 * 0.70710678)
    assert late[1] == pytest.approx(0.75 - 0.5 * (1 - 0.70710678))
    assert "loops" in message(image, "Loopback", [0])


def test_prompt_matrix() -> None:
    """The vector of webui.md: "a|b|c" is a; a, b; a, c; a, b, c."""
    asked = text("Prompt matrix", [], prompt="a|b|c")
    assert column(asked, "prompt", "seed") == [("a", 77), ("a, b", 77), ("a, c", 77), ("a, b, c", 77)]
    assert column(text("Prompt matrix", [], prompt="a|b", n_iter=3, batch_size=2), "batch_size", "batch_count") == [
        (1, 1), (1, 1),
    ]  # fmt: skip
    other = text("prompt matrix", [True, True, "positive", "space"], prompt="a|b", seed=5)
    assert column(other, "prompt", "seed") == [("a", 5), ("b a", 6)]
    negative = text("Prompt matrix", [False, False, "negative"], prompt="a", negative_prompt="x|y")
    assert column(negative, "prompt", "negative_prompt") == [("a", "x"), ("a", "x, y")]
    assert "more than 256" in message(text, "Prompt matrix", [], prompt="|".join("abcdefghijk"))


def test_prompts_from_file() -> None:
    lines = 'a dog\n\n--prompt "a fox" --steps 12 --seed 3\n--sd_model model --prompt a cow'
    asked = text("Prompts from file or textbox", [False, False, "start", lines], prompt="in rain")
    assert column(asked, "prompt") == ["a dog in rain", "a fox in rain", "a cow in rain"]
    assert [str(step) for step in column(asked, "steps")] == ["50", "12", "50"]
    assert column(asked, "model") == [None, None, "model"]
    counted = text("Prompts from file or textbox", [True, False, "end", "a dog\na fox"], batch_size=2)
    assert column(counted, "prompt", "seed") == [("a cat a dog", 77), ("a cat a fox", 79)]
    same = text("Prompts from file or textbox", [False, True, "start", "a dog\na fox"])
    assert column(same, "seed") == [77, 77]
    old = text("Prompts from file or textbox", [False, False, "a dog\na fox"], prompt="")
    assert column(old, "prompt") == ["a dog", "a fox"]
    assert "no lines" in message(text, "Prompts from file or textbox", [False, False, "start", "\n"])
    assert "not found" in message(
        text, "Prompts from file or textbox", [0, 0, "start", "--sd_model /etc/passwd --prompt a"]
    )


def test_plots_are_read_along_x_then_down_y() -> None:
    args = [4, "10,20", "", 1, "5-6", "", 0, "", "", True, False, False, False, False, False, False, 0, False]
    asked = text("X/Y/Z plot", args)
    assert column(asked, "steps", "seed") == [(10, 5), (20, 5), (10, 6), (20, 6)]
    assert asked.runs.extra == {
        "Script": "X/Y/Z plot", "X Type": "Steps", "X Values": "10,20", "Y Type": "Seed", "Y Values": "5-6",
    }  # fmt: skip


def test_axes_by_number_name_and_dropdown() -> None:
    titles = [title for title, _ in offered(image=False)]
    assert titles[:9] == [
        "Nothing", "Seed", "Var. seed", "Var. strength", "Steps", "Hires steps", "CFG Scale", "Prompt S/R",
        "Prompt order",
    ]  # fmt: skip
    assert [title for title, _ in offered(image=True)][5:8] == ["CFG Scale", "Image CFG Scale", "Prompt S/R"]
    sampler = titles.index("Sampler")
    asked = text("x/y/z plot", [sampler, "", ["DPM++ 2M Karras", "Euler a"], "Schedule type", "Simple", ""])
    assert column(asked, "sampler") == ["DPM++ 2M Karras", "Euler a"]
    assert column(asked, "scheduler") == ["simple", "simple"]
    models = text("x/y/z plot", ["Checkpoint name", "model.ckpt [7460a6fa00],embedded", ""])
    assert column(models, "model") == ["model", "embedded"]
    replaced = text("x/y/z plot", ["Prompt S/R", "cat,dog", ""])
    assert column(replaced, "prompt") == ["a cat", "a dog"]
    sizes = text("x/y/z plot", ["Size", "64x128,128x64", ""])
    assert column(sizes, "width", "height") == [(64, 128), (128, 64)]
    noise = text("x/y/z plot", ["RNG source", "GPU,CPU", ""])
    assert column(noise, "rng") == ["nv", "cpu"]


def test_pages_of_plots_and_matrices() -> None:
    """As they are read: a combination's lower bits go along the columns."""
    plot = text("x/y/z plot", ["Steps", "1,2", "", "CFG Scale", "3", "", "Seed", "4,5", ""]).runs.sheets
    assert plot is not None
    assert (plot.above, plot.beside) == (("Steps: 1", "Steps: 2"), ("CFG Scale: 3",))
    assert (plot.titles, plot.only, plot.images) == (("Seed: 4", "Seed: 5"), True, 2)
    bare = text("x/y/z plot", ["Steps", "1,2", "", 0, "", "", 0, "", "", False, True]).runs.sheets
    assert bare is not None
    assert (bare.above, bare.beside, bare.only) == (("", ""), ("",), False)
    matrix = text("Prompt matrix", [], prompt="a|b|c|d").runs.sheets
    assert matrix is not None
    assert (matrix.above, matrix.beside) == (("-", "b", "c", "b + c"), ("-", "d"))
    assert not matrix.only
    assert column(text("Prompt matrix", [], prompt="a|b|c|d"), "prompt")[5] == "a, b, d"


def test_one_seed_is_drawn_for_a_plot() -> None:
    assert column(text("x/y/z plot", ["Steps", "1,2", ""]), "seed") == [77, 77]
    drawn = text("x/y/z plot", ["Seed", "-1,-1", ""])
    assert drawn.runs.extra["Fixed X Values"] == "77,77"
    vary = ["Steps", "1,2", "", 0, "", "", 0, "", "", True, False, False, False, True, False, False, 0, False]
    assert column(text("x/y/z plot", vary, seed=5), "seed") == [5, 6]


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["Size", "512x512,64", ""], "axis Size '64'"),
        (["Face restore", "a", ""], "'Face restore' is not there"),
        (["No such", "a", ""], "no axis 'No such'"),
        ([999, "a", ""], "no axis '999'"),
        (["Steps", "1-9999", ""], "at most 1000"),
        (["Steps", "many", ""], "steps 'many'"),
        (["Steps", "1-300", ""], "300 images; at most 256"),
        (["Sampler", "Nobody", ""], "Sampler not found"),
        (["Prompt S/R", "dog,fox", ""], "'dog' is not in the prompt"),
        (["Checkpoint name", "/etc/passwd", ""], "not found"),
        (["Steps", "1,2", "", "Seed", "1,2", "", 0, "", "", 1, 0, 0, 0, True, False, False, 0, 0], "along none"),
    ],
)
def test_plots_that_cannot_be_made(args: list[Any], part: str) -> None:
    assert part in message(text, "x/y/z plot", args)
