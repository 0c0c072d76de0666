"""Infotexts of A1111's Latent Couple as regions. The key is as the extension writes it."""

from __future__ import annotations

import pytest

from atelier.request.infotext import interpret, read, to_request, without_effect

USUAL = "divisions=1:1,1:2,1:2 positions=0:0,0:0,0:1 weights=0.2,0.8,0.8 end at step=20"
THREE = "two animals\nAND two animals, a hare\nAND two animals, a fox"


def text(said: str = USUAL, prompt: str = THREE) -> str:
    line = f'Steps: 20, Sampler: Euler a, CFG scale: 5, Seed: 1, Size: 512x512, Latent Couple: "{said}"'
    return f"{prompt}\nNegative prompt: blurry\n{line}"


def test_each_part_has_its_place_and_weight() -> None:
    found = read(text())
    reading = interpret(found)
    assert (reading.settings.regions or "").split("\n") == [
        "box=0,0,1,1 weight=0.2: two animals",
        "box=0,0,0.5,1 weight=0.8: two animals, a hare",
        "box=0.5,0,1,1 weight=0.8: two animals, a fox",
    ]
    assert (reading.settings.prompt, reading.warnings, without_effect(found)) == ("two animals", (), ())
    request = to_request(found)
    assert (len(request.layout.regions), request.layout.region_method) == (3, "latent")


@pytest.mark.parametrize(
    ("division", "position", "box"),
    [("2:2", "1:0", "0,0.5,0.5,1"), ("3:1", "1:0", "0,0.333333,1,0.666667"), ("2:1", "0.5:0", "0,0.25,1,0.75")],
)
def test_where_a_cell_is(division: str, position: str, box: str) -> None:
    """Rows before columns, counted from 0; a cell may lie between two."""
    said = f"divisions=1:1,{division} positions=0:0,{position} weights=1,1 end at step=20"
    regions = interpret(read(text(said, "a AND b"))).settings.regions or ""
    assert regions.split("\n")[1] == f"box={box}: b"


def test_an_end_is_told_of() -> None:
    (note,) = interpret(read(text(USUAL.replace("step=20", "step=13")))).warnings
    assert note == "Latent Couple: regions act to the end here, there until step 13"


@pytest.mark.parametrize(
    ("said", "prompt"),
    [
        (USUAL, "a AND b"),
        (USUAL, "a AND AND c"),
        (USUAL.replace("1:2 positions", "1:1 positions"), THREE),
        (USUAL.replace("0.8 end", "-1 end"), THREE),
        (USUAL.replace("0.8 end", "end"), THREE),
        (USUAL.replace("1:2", "inf:nan"), THREE),
        ("something else", THREE),
    ],
)
def test_what_is_no_place_is_told(said: str, prompt: str) -> None:
    found = read(text(said, prompt))
    assert interpret(found).settings.regions is None
    assert interpret(found).settings.prompt == prompt
    assert without_effect(found) == ("Latent Couple",)
