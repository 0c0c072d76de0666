"""Infotexts of A1111's Regional Prompter as regions. Keys and values are those that the extension writes."""

from __future__ import annotations

import pytest

from atelier.request.infotext import interpret, read, to_request, without_effect

KEYS = (
    "RP Active: True, RP Divide mode: Matrix, RP Matrix submode: {submode}, RP Mask submode: Mask, RP Prompt submode: "
    'Prompt, RP Calc Mode: {calc}, RP Ratios: "{ratios}", RP Base Ratios: {base_ratios}, RP Use Base: {base}, RP Use '
    "Common: {common}, RP Use Ncommon: {ncommon}, RP Change AND: False, RP LoRA Neg Te Ratios: 0, RP LoRA Neg U "
    "Ratios: 0, RP threshold: 0.4, RP LoRA Stop Step: 0, RP LoRA Hires Stop Step: 0, RP Flip: {flip}"
)
USUAL = {
    "submode": "Columns",
    "calc": "Attention",
    "ratios": "1,1",
    "base_ratios": "0.2",
    **dict.fromkeys(("base", "common", "ncommon", "flip"), "False"),
}


def text(prompt: str, negative: str = "blurry", **said: str) -> str:
    line = f"Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 768x512, {KEYS.format(**{**USUAL, **said})}"
    return f"{prompt}\nNegative prompt: {negative}\n{line}, Version: v1.6.0"


def regions(prompt: str, negative: str = "blurry", **said: str) -> list[str]:
    return (interpret(read(text(prompt, negative, **said))).settings.regions or "").split("\n")


def test_columns_and_their_prompts() -> None:
    found = read(text("a red apple BREAK a green frog"))
    settings = interpret(found).settings
    assert settings.regions == "box=0,0,0.5,1: a red apple\nbox=0.5,0,1,1: a green frog"
    assert (settings.region_method, settings.region_ground) == ("attention", 0.0)
    assert (settings.prompt, settings.negative_prompt) == ("a red apple, a green frog", "blurry")
    assert without_effect(found) == ()
    request = to_request(found)
    assert (request.layout.region_method, len(request.layout.regions)) == ("attention", 2)


@pytest.mark.parametrize(
    ("prompt", "said", "boxes"),
    [
        ("a BREAK b", {"submode": "Horizontal", "ratios": "3,1"}, ["0,0,0.75,1", "0.75,0,1,1"]),
        ("a BREAK b", {"submode": "Rows"}, ["0,0,1,0.5", "0,0.5,1,1"]),
        ("a BREAK b", {"submode": "Vertical", "ratios": "1,3"}, ["0,0,1,0.25", "0,0.25,1,1"]),
        ("a ADDROW b", {"ratios": "1,3"}, ["0,0,1,0.25", "0,0.25,1,1"]),
        ("a ADDCOL b", {"submode": "Rows", "ratios": "1,3"}, ["0,0,0.25,1", "0.25,0,1,1"]),
        (
            "a ADDCOL b ADDCOL c ADDROW d ADDCOL e",
            {"ratios": "1,2,1,1;3,4,1"},
            ["0,0,0.5,0.25", "0.5,0,0.75,0.25", "0.75,0,1,0.25", "0,0.25,0.8,1", "0.8,0.25,1,1"],
        ),
        ("a BREAK b BREAK c", {"ratios": "1,1,1;3,1"}, ["0,0,0.5,0.25", "0.5,0,1,0.25", "0,0.25,1,1"]),
        (
            "a ADDROW b ADDCOL c",
            {"submode": "Rows", "ratios": "2;1;3,1;1"},
            ["0,0,0.666667,0.25", "0,0.25,0.666667,1", "0.666667,0,1,1"],
        ),
        ("a ADDCOL b ADDROW c", {"ratios": "1"}, ["0,0,0.5,0.5", "0.5,0,1,0.5", "0,0.5,1,1"]),
        ("a BREAK b BREAK c BREAK d", {"ratios": "1;1;1,1;1;1", "flip": "True"}, [
            "0,0,0.5,0.5", "0.5,0,1,0.5", "0,0.5,0.5,1", "0.5,0.5,1,1"]),
        ("a AND b", {}, ["0,0,0.5,1", "0.5,0,1,1"]),
    ],
)  # fmt: skip
def test_where_cells_are(prompt: str, said: dict[str, str], boxes: list[str]) -> None:
    assert [region.removeprefix("box=").split(":")[0] for region in regions(prompt, **said)] == boxes
    assert [region.split(": ")[1] for region in regions(prompt, **said)] == list("abcde")[: len(boxes)]


@pytest.mark.parametrize(("mode", "second"), [("Horizontal", "0.5,0,1,1"), ("Vertical", "0,0.5,1,1")])
def test_old_versions_called_the_division_a_mode(mode: str, second: str) -> None:
    old = text("a BREAK b").replace("RP Divide mode: Matrix, RP Matrix submode: Columns", f"RP Divide mode: {mode}")
    assert (interpret(read(old)).settings.regions or "").split("\n")[1] == f"box={second}: b"


def test_what_is_common_comes_before_each() -> None:
    expected = ["box=0,0,0.5,1: a meadow, a hare", "box=0.5,0,1,1: a meadow, a fox"]
    assert regions("a meadow,\nADDCOMM a hare,\nADDCOL a fox,") == expected
    assert regions("a meadow BREAK a hare BREAK a fox", common="True") == expected


def test_a_base_is_a_region_of_everything() -> None:
    """0.2 of the sum of both is 0.25 against 1; of several shares each has its own weight against 1."""
    halves = ["box=0,0,0.5,1: a hare", "box=0.5,0,1,1: a fox"]
    assert regions("two animals ADDBASE a hare ADDCOL a fox") == [*halves, "box=0,0,1,1 weight=0.25: two animals"]
    assert regions("two animals BREAK a hare BREAK a fox", base="True", base_ratios="0") == halves
    assert regions("two animals ADDBASE a hare ADDCOL a fox", base_ratios='"0.2,0.5"') == [
        "box=0,0,0.5,1 weight=4: a hare",
        "box=0.5,0,1,1: a fox",
        "box=0,0,1,1: two animals",
    ]


def test_negative_prompts_may_be_of_each() -> None:
    assert [" negative=dull:" in r for r in regions("a BREAK b", "dull BREAK pale")] == [True, False]
    assert regions("a BREAK b", "dull BREAK pale")[1] == "box=0.5,0,1,1 negative=pale: b"
    assert regions("a BREAK b", "dull BREAK pale BREAK dark")[0] == "box=0,0,0.5,1: a"
    assert regions("a BREAK b", "bad BREAK dull BREAK pale", ncommon="True")[0] == (
        'box=0,0,0.5,1 negative="bad, dull": a'
    )


def test_networks_act_everywhere_in_attention_and_in_their_region_in_latent_mode() -> None:
    prompt = "a hare <lora:one:0.8> BREAK a fox"
    settings = interpret(read(text(prompt))).settings
    assert settings.prompt == "a hare, a fox <lora:one:0.8>"
    assert settings.regions == "box=0,0,0.5,1: a hare\nbox=0.5,0,1,1: a fox"
    latent = interpret(read(text(prompt, calc="Latent"))).settings
    assert (latent.prompt, latent.region_method, latent.region_ground) == ("a hare, a fox", "latent", None)
    assert latent.regions == "box=0,0,0.5,1: a hare <lora:one:0.8>\nbox=0.5,0,1,1: a fox"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RP Divide mode: Matrix", "RP Divide mode: Mask"),
        ("RP Divide mode: Matrix", "RP Divide mode: Prompt"),
        ("RP Matrix submode: Columns", "RP Matrix submode: Random"),
        ("a BREAK b", "a BREAK"),
        ("a BREAK b", "a BREAK <lora:one:1>"),
        ("a BREAK b", "<lora:one:1> ADDBASE a BREAK b"),
        ("a BREAK b", "a"),
        ('RP Ratios: "1,1"', 'RP Ratios: "1,1;1,1,1"'),
    ],
)
def test_what_no_box_says_is_told(old: str, new: str) -> None:
    found = read(text("a BREAK b").replace(old, new))
    assert interpret(found).settings.regions is None
    assert without_effect(found) == ("RP Active",)


def test_switched_off_it_is_nothing() -> None:
    found = read(text("a BREAK b").replace("RP Active: True", "RP Active: False"))
    assert (interpret(found).settings.regions, interpret(found).settings.prompt) == (None, "a BREAK b")
    assert without_effect(found) == ()
