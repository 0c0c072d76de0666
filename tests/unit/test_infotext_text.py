"""Texts in A1111's form that people and programs have cut, wrapped, and written on."""

from __future__ import annotations

import pytest

from atelier.request.infotext import interpret, read, write
from atelier.request.infotext_record import Infotext
from atelier.request.infotext_settings import settings_of

LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1993765611, Size: 768x512"


def read_back(text: str) -> Infotext:
    """What a text says, if it can be written and read again."""
    found = read(text)
    settings = settings_of(found).settings
    assert settings_of(read(write(settings))).settings == settings
    return found


@pytest.mark.parametrize(
    ("behind", "key", "value"),
    [
        ("\nUsed embeddings: easynegative [119b], bad [1eff]", "Used embeddings", "easynegative [119b], bad [1eff]"),
        ("Time taken: 12.3s | Torch active/reserved: 3/4", "Time taken", "12.3s | Torch active/reserved: 3/4"),
        ("\n\nTemplate: a {b|c}", "Template", "a {b|c}"),
        ("\nposted: by me, 2023\n\nwith love", "Text behind", "posted: by me, 2023\n\nwith love"),
    ],
)
def test_lines_behind_the_parameters_are_kept(behind: str, key: str, value: str):
    found = read_back(f"a cat\nNegative prompt: b\n{LINE}\n{behind}")
    assert (found.prompt, found.negative_prompt, found.get("Size")) == ("a cat", "b", "768x512")
    assert found.get(key) == value


def test_of_several_lines_with_text_behind_the_last_one_counts():
    found = read_back(f"a\n{LINE}\nb\n{LINE.replace('20', '30')}\nc")
    assert (found.prompt, found.get("Steps"), found.get("Text behind")) == (f"a\n{LINE}\nb", "30", "c")


def test_a_line_of_few_parameters_with_text_behind_is_prompt():
    text = "a\nSteps: 20, Sampler: Euler a, Seed: 1\nb"
    assert (read_back(text).prompt, read(text).dialect) == (text, "text")


def test_parameters_wrapped_over_four_lines_are_one():
    found = read_back(
        "p, q,\nNegative prompt: n,\nSteps: 20, Size: 1312x1408, Seed: 1561296656, CFG scale: 6,\n"
        "CFG rescale: 0.7, Model: m, Model hash: 847403d47a,\nApp: SD.Next, Version: 8b73cb6, Pipeline: X,\n"
        "Operations: txt2img"
    )
    assert (found.prompt, found.negative_prompt, found.dialect) == ("p, q,", "n,", "sdnext")
    assert (found.get("Steps"), found.get("Operations")) == ("20", "txt2img")


def test_wrapped_parameters_end_before_an_empty_line():
    found = read_back("p\nSteps: 20, Sampler: Euler, CFG scale: 6,\nSeed: 5, Size: 5x5\n\nfor you")
    assert (found.get("Size"), found.get("Text behind")) == ("5x5", "for you")


@pytest.mark.parametrize("end", ["\n", ",\n", " | "])
@pytest.mark.parametrize("fence", ["", "\n```"])
def test_parameters_on_lines_of_their_own_or_with_bars_between(end: str, fence: str):
    pairs = ("Steps: 25", "Sampler: DPM++ 2M Karras", "Clip skip: 2", "CFG scale: 7", "Seed: 1", "Size: 512x512")
    found = read_back(f"a | cat\nNegative prompt: b\n{end.join(pairs)}{fence}")
    assert (found.prompt, found.negative_prompt) == ("a | cat", "b")
    assert tuple(f"{key}: {value}" for key, value in found.pairs) == pairs
    assert interpret(found).settings.scheduler == "Karras"


@pytest.mark.parametrize("text", ["a\nSteps: 25\nSeed: 1", "a | b: c | d", "Model: a\nVAE: b\nClip skip: 2"])
def test_fewer_than_three_are_prompt(text: str):
    assert read_back(text).prompt == text
