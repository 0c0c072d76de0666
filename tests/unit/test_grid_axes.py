"""Axes of a grid and files of prompts: text in, requests out."""

from __future__ import annotations

from typing import Any

import pytest

from atelier.errors import BadInput
from atelier.request.grid.asked import grid_of, requests_of
from atelier.request.grid.axes import axis_of
from atelier.request.grid.cells import Grid, Place, cells, legend, settled
from atelier.request.grid.values import numbers, texts
from atelier.request.infotext import Settings, read, write
from atelier.request.prompt_file import prompt_lines, requests


@pytest.mark.parametrize(
    ("text", "whole", "values"),
    [
        ("1-5", True, (1, 2, 3, 4, 5)),
        ("1-10 (+2)", True, (1, 3, 5, 7, 9)),
        ("10-5 (-3)", True, (10, 7)),
        ("5-1", True, (5, 4, 3, 2, 1)),
        ("1-10 [5]", True, (1, 3, 5, 7, 10)),
        ("1-1", True, (1,)),
        ("3-9 [1]", True, (3,)),
        ("-2-1", True, (-2, -1, 0, 1)),
        ("-3--1", True, (-3, -2, -1)),
        ("1-3 (+0.5)", False, (1.0, 1.5, 2.0, 2.5, 3.0)),
        ("0-1 (+0.1)", False, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
        ("0.0-1.0 [6]", False, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ("1.5--0.5 [3]", False, (1.5, 0.5, -0.5)),
        ("2-3 (+.5)", False, (2.0, 2.5, 3.0)),
        ("5, 10,20-30 (+5), -1", True, ("5", "10", 20, 25, 30, "-1")),
        ("7.5,", False, ("7.5",)),
    ],
)
def test_numbers(text: str, whole: bool, values: tuple[object, ...]) -> None:
    assert numbers(text, whole=whole) == values
    assert [type(v) for v in numbers(text, whole=whole)] == [type(v) for v in values]


def test_texts_are_csv() -> None:
    assert texts('Euler, "a, b",DPM++ 2M ,"say ""x"""') == ("Euler", "a, b", "DPM++ 2M", 'say "x"')
    assert texts("red,") == ("red", "")


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ("steps", ("steps", "NAME=VALUES")),
        ("steps=", ("NAME=VALUES",)),
        ("stepz=1", ("stepz", "steps")),
        ("output=a,b", ("output", "no image")),
        ("batch-size=1,2", ("batch-size",)),
        ("steps=1-3 (+0.5)", ("1-3 (+0.5)", "whole")),
        ("cfg-scale=1-5 (+0)", ("1-5 (+0)", "(+1)")),
        ("cfg-scale=5-1 (+2)", ("5-1 (+2)", "(-2)")),
        ("steps=1-3 [0]", ("brackets",)),
        ("steps=1-1000000", ("1000000 values", "1000")),
        ('sampler=Euler,"a', ("list of values",)),
        ("prompt-sr=red", ("search",)),
        ("prompt-sr=,red", ("search",)),
        ("prompt-order=red", ("two",)),
        ("prompt-order=a,b,c,d,e,f,g", ("5040 orders",)),
    ],
)
def test_what_is_no_axis(axis: str, words: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        axis_of(axis)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_axes_have_the_names_of_fields_of_options_and_of_a1111() -> None:
    names = ("cfg_scale", "CFG Scale", "negative", "strength", "Checkpoint name", "Prompt S/R", "rho")
    axes = [axis_of(f"{name}=1,2") for name in names]
    assert [axis.field for axis in axes] == [
        *("cfg_scale", "cfg_scale", "negative_prompt", "denoising_strength", "model", "", "rho")
    ]
    assert [axis.title for axis in axes] == [
        *("CFG Scale", "CFG Scale", "negative prompt", "Denoising", "Checkpoint name", "Prompt S/R", "Schedule rho")
    ]
    assert axes[0].labels == ("CFG Scale: 1", "CFG Scale: 2")
    assert axis_of("seed-resize=64x128,0x0").values == ((64, 128), (0, 0))
    assert axis_of("styles=None,old").values == ((), ("old",))


A1111S_AXES = {
    "seed": "Seed",
    "variation_seed": "Var. seed",
    "variation_strength": "Var. strength",
    "steps": "Steps",
    "hires_steps": "Hires steps",
    "cfg_scale": "CFG Scale",
    "sampler": "Sampler",
    "hires_sampler": "Hires sampler",
    "model": "Checkpoint name",
    "ngms": "Negative Guidance minimum sigma",
    "s_churn": "Sigma Churn",
    "s_tmin": "Sigma min",
    "s_tmax": "Sigma max",
    "s_noise": "Sigma noise",
    "scheduler": "Schedule type",
    "sigma_min": "Schedule min sigma",
    "sigma_max": "Schedule max sigma",
    "rho": "Schedule rho",
    "beta_alpha": "Beta schedule alpha",
    "beta_beta": "Beta schedule beta",
    "eta": "Eta",
    "clip_skip": "Clip skip",
    "denoising_strength": "Denoising",
    "noise_multiplier": "Initial noise multiplier",
    "extra_noise": "Extra noise",
    "hires_upscaler": "Hires upscaler",
    "styles": "Styles",
    "unipc_order": "UniPC Order",
    "discard_penultimate_sigma": "Always discard next-to-last sigma",
    "sgm_noise_multiplier": "SGM noise multiplier",
    "rng": "RNG source",
    "refiner": "Refiner checkpoint",
}


NAMES_OF_OTHERS = {"Sigma min", "Sigma max"}
"""Here the schedule's, as on the command line; A1111's axes of these names are the churn's."""


@pytest.mark.parametrize(("field", "title"), A1111S_AXES.items())
def test_an_axis_is_called_as_a1111_calls_it(field: str, title: str) -> None:
    for written in {field, title} - NAMES_OF_OTHERS:
        axis = axis_of((written, ["True"]))
        assert (axis.field, axis.title) == (field, title)


@pytest.mark.parametrize("asked", [5, ("steps", 5), ("steps",), (1, [2]), ["steps=1"]])
def test_what_is_no_axis_in_python(asked: Any) -> None:
    with pytest.raises(BadInput, match=r"^axis .*: give a text such as 'steps=10,20', or a name and a list of values$"):
        axis_of(asked)


def test_values_from_python() -> None:
    axis = axis_of(("sampler", ["Euler", "DPM++, mine"]))
    assert axis.values == ("Euler", "DPM++, mine")
    assert axis.text == 'Euler,"DPM++, mine"'
    assert axis_of(("cfg_scale", [1.5, 2])).labels == ("CFG Scale: 1.5", "CFG Scale: 2")


def _prompts(**how: object) -> list[str]:
    grid = grid_of({"prompt": "a red cat, red hat", "seed": 1, "negative_prompt": "dark red"}, **how)  # pyright: ignore[reportArgumentType]
    return [request.prompt for request in requests_of(grid)]


def test_sizes() -> None:
    axis = axis_of("Size=64x128, 128x64")
    assert (axis.title, axis.labels) == ("Size", ("Size: 64x128", "Size: 128x64"))
    sides = [(own.width, own.height) for own in requests_of(Grid({"prompt": "p", "width": 512}, axis))]
    assert sides == [(64, 128), (128, 64)]
    assert axis_of(("size", [(64, 128)])).values == ((64, 128),)
    with pytest.raises(BadInput, match=r"axis Size '64': write sizes such as 512x768"):
        axis_of("size=64,64x64")
    with pytest.raises(BadInput, match="two axes change height: give all its values to one of them"):
        requests_of(Grid({"prompt": "p"}, axis, axis_of("height=64,128")))


@pytest.mark.parametrize("field", ["hires_checkpoint", "vae", "text_encoders"])
def test_what_is_loaded_changes_as_seldom_as_can_be(field: str) -> None:
    grid = Grid({"prompt": "p", "hires_upscale": 2}, axis_of(f"{field}=a,b"), axis_of("steps=1,2"))
    assert [cell.place[:2] for cell in cells(grid)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_search_and_replace() -> None:
    assert _prompts(x="prompt-sr=red,blue,a, b") == [
        *("a red cat, red hat", "a blue cat, blue hat", "a a cat, a hat", "a b cat, b hat")
    ]
    grid = grid_of({"prompt": "a cat", "negative_prompt": "dark red"}, x="prompt-sr=red,blue")
    assert [r.negative_prompt for r in requests_of(grid)] == ["dark red", "dark blue"]
    with pytest.raises(BadInput, match="'dog' is not in the prompt"):
        _prompts(x="prompt-sr=dog,cat")
    both = _prompts(x="prompt=a red dog,a red fox", y="prompt-sr=red,blue")
    assert both == ["a red dog", "a red fox", "a blue dog", "a blue fox"]


def test_orders() -> None:
    grid = grid_of({"prompt": "one, two and three, one", "seed": 1}, x="prompt-order=one,two,three")
    assert [request.prompt for request in requests_of(grid)] == [
        "one, two and three, one",
        "one, three and two, one",
        "two, one and three, one",
        "two, three and one, one",
        "three, one and two, one",
        "three, two and one, one",
    ]
    with pytest.raises(BadInput, match="'dog' is not in the prompt"):
        _prompts(x="prompt-order=cat,dog")


def test_matrix() -> None:
    grid = grid_of({"prompt": "a|b|c", "seed": 1}, matrix=True)
    assert [request.prompt for request in requests_of(grid)] == ["a", "a, b", "a, c", "a, b, c"]
    assert grid.shape == (2, 2, 1)
    four = grid_of({"prompt": "a, |b,|c|[d|e]", "seed": 1}, matrix=True)
    assert [request.prompt for request in requests_of(four)] == [
        *("a", "a, b", "a, c", "a, b, c"),
        *("a, [d|e]", "a, b, [d|e]", "a, c, [d|e]", "a, b, c, [d|e]"),
    ]
    assert four.x.labels == ("-", "b", "c", "b + c")
    assert four.y.labels == ("-", "[d|e]")
    assert grid_of({"prompt": "a|b"}, matrix=True).y.labels == ("",)


@pytest.mark.parametrize(("prompt", "x", "words"), [("a cat", None, "no parts"), ("a|b", "steps=1,2", "--matrix")])
def test_what_is_no_matrix(prompt: str, x: str | None, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        grid_of({"prompt": prompt}, x=x, matrix=True)


def test_cells_that_load_a_model_follow_each_other() -> None:
    grid = grid_of({"prompt": "a", "seed": 3}, x="model=m,n", y="steps=1,2", z="cfg-scale=4,5")
    assert [cell.place for cell in cells(grid)] == [
        *(Place(0, 0, 0), Place(0, 1, 0), Place(0, 0, 1), Place(0, 1, 1)),
        *(Place(1, 0, 0), Place(1, 1, 0), Place(1, 0, 1), Place(1, 1, 1)),
    ]
    made = [(r.request.model, r.request.steps, r.request.cfg_scale) for r in cells(grid)]
    assert made[:3] == [("m", 1, 4.0), ("m", 2, 4.0), ("m", 1, 5.0)]
    plain = cells(grid_of({"prompt": "a"}, x="steps=1,2", z="cfg-scale=4,5"))
    assert [cell.place for cell in plain] == [Place(0, 0, 0), Place(1, 0, 0), Place(0, 0, 1), Place(1, 0, 1)]


def test_seeds_are_the_same_everywhere_unless_asked() -> None:
    fields = {"prompt": "a", "seed": "-1"}
    asked = grid_of(fields, x="steps=1,2", y="cfg-scale=3,4")
    numbers_ = iter((70, 80, 90, 100))
    grid = settled(asked, lambda _: next(numbers_))
    assert [cell.request.seed for cell in cells(grid)] == [70] * 4
    varied = settled(Grid(fields, asked.x, asked.y, vary_seed=True), lambda _: 2**64 - 2)
    assert [cell.request.seed for cell in cells(varied)] == [2**64 - 2, 2**64 - 1, 0, 1]


def test_the_seed_of_a_variation_is_drawn_where_there_is_one() -> None:
    plain = settled(grid_of({"prompt": "a"}, x="steps=1,2"), len)
    assert [cell.request.noise.variation_seed for cell in cells(plain)] == [None, None]
    for fields, x in (({"variation_strength": 0.5}, "steps=1,2"), ({}, "variation-strength=0.1,0.2")):
        varied = settled(grid_of({"prompt": "a", **fields}, x=x), len)
        assert [cell.request.noise.variation_seed for cell in cells(varied)] == [14, 14]


def test_open_seeds_of_an_axis_are_drawn_once_and_told() -> None:
    grid = settled(grid_of({"prompt": "a", "seed": 1}, x="seed=5,-1,-1", y="steps=1,2"), lambda what: 10 + len(what))
    seeds = [cell.request.seed for cell in cells(grid)]
    assert seeds == [5, 16, 16] * 2
    said = legend(Settings(seed=5), grid)
    assert (said.x_type, said.x_values, said.fixed_x_values) == ("Seed", "5,-1,-1", "5,16,16")
    assert said.fixed_y_values is None


def test_the_same_grid_in_the_same_folder_draws_the_same_seeds() -> None:
    def seed(output: str | None, steps: str = "1,2") -> int | None:
        return requests_of(grid_of({"prompt": "a", "output": output}, x=f"steps={steps}"))[0].seed

    assert seed("here") == seed("here")
    assert len({seed("here"), seed("there"), seed("here", "1,3"), seed(None), seed(None)}) == 5
    turned = requests_of(grid_of({"output": "here", "prompt": "a"}, x="steps=1,2"))[0].seed
    assert turned == seed("here")


def test_the_legend_is_a1111s() -> None:
    grid = grid_of({"prompt": "a"}, x="cfg-scale=1,2", y="sampler=Euler,DPM++ 2M", z="prompt-sr=a,b")
    text = write(legend(Settings(prompt="a", steps=20, seed=7), grid))
    assert 'Script: X/Y/Z plot, X Type: CFG Scale, X Values: "1,2", Y Type: Sampler, Y Values: "Euler,DPM++ 2M"' in text
    assert 'Z Type: Prompt S/R, Z Values: "a,b"' in text
    assert read(text).get("X Values") == "1,2"
    assert legend(Settings(), grid_of({"prompt": "a|b"}, matrix=True)).script == "Prompt matrix"


@pytest.mark.parametrize(
    ("fields", "axes", "words"),
    [
        ({}, {"x": "steps=1,2", "y": "steps=3,4"}, "two axes change steps"),
        ({"batch_size": 2}, {"x": "steps=1,2"}, "one image in each cell"),
        ({"batch_count": "3"}, {"x": "steps=1,2"}, "one image in each cell"),
        ({}, {"x": "seed=1-500", "y": "steps=1-500"}, "250000 images"),
        ({}, {"x": "steps=1,0"}, "steps '0'"),
    ],
)
def test_what_is_no_grid(fields: dict[str, object], axes: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        requests_of(grid_of({"prompt": "a", **fields}, **axes))  # pyright: ignore[reportArgumentType]


LINES = """a plain cat

--prompt "a dog, running" --steps 12 --negative_prompt blurry sky --cfg_scale 6.5 --seed 9
--prompt a red fox --sampler_name "Euler a" --width 128 --height 64 --subseed 3 --subseed_strength 0.5
--prompt x --seed_resize_from_w 64 --seed_resize_from_h 128 --styles "old, new" --n_iter 2 --prompt_for_display no
a dog's life --steps 9
--prompt x --stepz 3
--prompt x --tiling true
--prompt x --negative blurry, dark --strength 0.4 --hires 2 --view-width 64 --tiling false --restore_faces true
"""


def test_lines_of_prompts() -> None:
    lines = prompt_lines(LINES)
    assert [(line.number, dict(line.fields)) for line in lines] == [
        (1, {"prompt": "a plain cat"}),
        (
            3,
            {
                "prompt": "a dog, running",
                "steps": "12",
                "negative_prompt": "blurry sky",
                "cfg_scale": "6.5",
                "seed": "9",
            },
        ),
        (
            4,
            {
                "prompt": "a red fox",
                "sampler": "Euler a",
                "width": "128",
                "height": "64",
                "variation_seed": "3",
                "variation_strength": "0.5",
            },
        ),
        (5, {"prompt": "x", "styles": ("old", "new"), "batch_count": "2", "seed_resize": ("64", "128")}),
        (6, {"prompt": "a dog's life --steps 9"}),
        (7, {"prompt": "--prompt x --stepz 3"}),
        (8, {"prompt": "x", "tile": "xy"}),
        (
            9,
            {
                "prompt": "x",
                "negative_prompt": "blurry, dark",
                "denoising_strength": "0.4",
                "hires_upscale": "2",
                "view_width": "64",
                "tile": "none",
            },
        ),
    ]
    notes = [line.notes for line in lines]
    assert notes[:4] == [()] * 4
    assert "line 6" in notes[4][0]
    assert "--stepz is no option" in notes[5][0]
    assert notes[6:] == [(), ("line 9: --restore_faces has no effect here",)]


def test_lines_are_joined_with_what_is_the_same_for_all() -> None:
    around = {"prompt": "oil painting", "negative_prompt": "dark", "steps": 30, "seed": 4}
    first, second, *_ = requests(prompt_lines(LINES)[:2], around)
    assert (first.prompt, first.negative_prompt, first.steps, first.seed) == ("a plain cat oil painting", "dark", 30, 4)
    assert (second.prompt, second.negative_prompt) == ("a dog, running oil painting", "blurry sky dark")
    assert (second.steps, second.seed, second.cfg_scale) == (12, 9, 6.5)
    with pytest.raises(BadInput, match="line 2: steps '0'"):
        requests(prompt_lines("a\n--prompt b --steps 0"), {})
