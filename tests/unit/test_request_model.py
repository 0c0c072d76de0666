"""A request is within its limits or does not exist."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from pydantic import ValidationError

from atelier.errors import BadInput
from atelier.request.model import LIMITS, Request


def test_what_is_not_said_is_left_open():
    request = Request(prompt="a cat")
    assert (request.model, request.steps, request.seed, request.width, request.output) == (None,) * 5
    assert (request.batch_size, request.batch_count, request.negative_prompt) == (1, 1, "")


@pytest.mark.parametrize("name", LIMITS)
def test_limits_hold_on_both_sides(name: str):
    low, high = LIMITS[name]
    for good in (low, high):
        assert getattr(Request(prompt="", **{name: good}), name) == good
    for bad in (low - 1, high + 1):
        with pytest.raises(BadInput) as caught:
            Request(prompt="", **{name: bad})
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
    ],
)
def test_bad_values_are_one_line_that_names_them(fields: dict[str, object], words: tuple[str, ...]):
    with pytest.raises(BadInput) as caught:
        Request(**{"prompt": "a cat", **fields})
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert len(message) < 300


def test_the_prompt_is_needed():
    with pytest.raises(BadInput, match="prompt is missing"):
        Request()


def test_a_request_does_not_change():
    request = Request(prompt="a cat")
    with pytest.raises(ValidationError):
        request.steps = 3


def test_its_schema_carries_the_limits():
    steps = Request.model_json_schema()["properties"]["steps"]["anyOf"][0]
    assert (steps["minimum"], steps["maximum"]) == LIMITS["steps"]


def test_torch_is_not_imported():
    code = (
        "import sys, atelier, atelier.request.model, atelier.request.resolve, atelier.request.events,"
        "atelier.request.infotext, atelier.cli.app; atelier.Request(prompt='x');"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
