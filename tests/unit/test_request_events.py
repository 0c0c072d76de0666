"""The JSON form of what a generation and a training tell."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from atelier.errors import BadFile, Interrupted
from atelier.request import events
from atelier.request.events import Event, to_json

IMAGE = Image.new("RGB", (8, 6))
TABLE: list[tuple[Event, dict[str, Any]]] = [
    (events.Warned("so many steps"), {"event": "Warned", "message": "so many steps"}),
    (events.Started(2, 40), {"event": "Started", "images": 2, "steps": 40}),
    (events.Hashing("tiny"), {"event": "Hashing", "model": "tiny"}),
    (events.Loading("tiny", "denoiser"), {"event": "Loading", "model": "tiny", "part": "denoiser"}),
    (events.Progress(3, 40, 1), {"event": "Progress", "done": 3, "total": 40, "index": 1}),
    (events.Preview(1, IMAGE), {"event": "Preview", "index": 1, "image": {"width": 8, "height": 6}}),
    (
        events.ImageReady(1, 7, IMAGE, "a cat\nSteps: 20"),
        {
            "event": "ImageReady",
            "index": 1,
            "seed": 7,
            "image": {"width": 8, "height": 6},
            "infotext": "a cat\nSteps: 20",
        },
    ),
    (events.Saved(1, Path("out/1.png")), {"event": "Saved", "index": 1, "path": "out/1.png"}),
    (
        events.SheetReady(0, IMAGE, "a cat\nScript: X/Y/Z plot"),
        {
            "event": "SheetReady",
            "number": 0,
            "image": {"width": 8, "height": 6},
            "infotext": "a cat\nScript: X/Y/Z plot",
        },
    ),
    (
        events.SheetSaved(0, Path("out/grid-00001.png")),
        {"event": "SheetSaved", "number": 0, "path": "out/grid-00001.png"},
    ),
    (
        events.Resumed(6, Path("run/step-6"), (Path("run/step-9"),)),
        {"event": "Resumed", "step": 6, "path": "run/step-6", "passed_over": ["run/step-9"]},
    ),
    (
        events.MemoryForecast(30, {"weights": 10, "activations": 20}, None),
        {"event": "MemoryForecast", "total": 30, "parts": {"weights": 10, "activations": 20}, "free": None},
    ),
    (events.TimeForecast(40, 2.5), {"event": "TimeForecast", "steps": 40, "seconds": 2.5}),
    (
        events.Stepped(3, 9, {"loss": 0.5, "norm": math.inf}),
        {"event": "Stepped", "step": 3, "total": 9, "losses": {"loss": 0.5, "norm": None}},
    ),
    (events.Validated(6, {"psnr": 20.5}), {"event": "Validated", "step": 6, "numbers": {"psnr": 20.5}}),
    (
        events.ClassImageSaved(2, 24, Path("run/class/00001.png")),
        {"event": "ClassImageSaved", "done": 2, "total": 24, "path": "run/class/00001.png"},
    ),
    (
        events.CheckpointSaved(6, Path("run/step-6")),
        {"event": "CheckpointSaved", "step": 6, "path": "run/step-6"},
    ),
    (events.Exported(Path("run/model")), {"event": "Exported", "path": "run/model"}),
    (events.Finished(2, 1.25), {"event": "Finished", "count": 2, "seconds": 1.25}),
    (
        events.Failed(BadFile("a.png", "is broken")),
        {"event": "Failed", "error": {"kind": "BadFile", "message": "a.png: is broken", "exit_code": 2}},
    ),
    (
        events.Failed(Interrupted("stopped")),
        {"event": "Failed", "error": {"kind": "Interrupted", "message": "stopped", "exit_code": 130}},
    ),
]


@pytest.mark.parametrize(("event", "expected"), TABLE, ids=lambda value: type(value).__name__)
def test_the_json_form(event: Event, expected: dict[str, Any]) -> None:
    found = to_json(event)
    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == expected


def test_every_event_is_in_the_table() -> None:
    assert {type(event) for event, _ in TABLE} == set(get_args(Event))
