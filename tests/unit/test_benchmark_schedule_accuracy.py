"""The benchmark of sampler and schedule: what it asks for, what it keeps and what it says; the images are made up."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from atelier.diffusion.catalogue import schedules
from atelier.request.model import Request
from atelier.train.data import scenes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODEL = {"name": "tiny", "path": "/x", "sha256": "ab" * 32}


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("schedule_accuracy")
    finally:
        sys.path.remove(str(BENCHMARKS))


class Painter:
    """An engine that draws what the prompt names along Uniform alone, and tells of Karras."""

    def __init__(self) -> None:
        self.requests = list[Request]()

    def generate(self, request: Request) -> list[Any]:
        self.requests.append(request)
        wanted = max((c for c in scenes.concepts() if c.name in request.prompt), key=lambda c: len(c.name))
        background = next(k for k in scenes.BACKGROUNDS if f"{k} background" in request.prompt)
        image = Image.new("RGB", (64, 64), tuple(scenes.BACKGROUNDS[background]))
        if request.scheduler == "Uniform":
            image = Image.fromarray(scenes.render(scenes.large(wanted.name, background), 64))
        return [SimpleNamespace(image=image)]

    def resolve(self, request: Request, warn: Callable[[str], None]) -> None:
        if request.scheduler == "Karras":
            warn("Karras: 14 of 30 steps are at levels …; with this model Uniform spends them better")


@pytest.fixture
def painter(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Painter:
    monkeypatch.setattr(bench.alone, "_defaults", lambda *_: SimpleNamespace(cfg_scale=1.5, width=64))
    return Painter()


def test_every_pair_schedule_by_schedule(bench: ModuleType) -> None:
    found = bench.pairs(argparse.Namespace(samplers="Euler,k_dpmpp_2m", schedules=None))
    assert found[:2] == [("Euler", next(iter(schedules()))), ("DPM++ 2M", next(iter(schedules())))]
    assert {schedule for _, schedule in found} == set(schedules())
    assert bench.pairs(argparse.Namespace(samplers="Euler", schedules="karras, AYS")) == [
        *(("Euler", "Karras"), ("Euler", "Align Your Steps"))
    ]


def test_rows_are_kept_and_not_measured_again(bench: ModuleType, painter: Painter, tmp_path: Path) -> None:
    keep, trials = tmp_path / "new" / "rows.jsonl", bench.alone.trials_of(3)

    def measured(*wanted: tuple[str, str], steps: int = 4) -> list[dict[str, Any]]:
        painter.requests.clear()
        return list(bench.measured(painter, wanted, trials, MODEL, keep, steps))

    pairs = [("Euler", "Uniform"), ("Heun", "Karras")]
    good, bad = measured(*pairs)
    assert [(r.sampler, r.scheduler, r.steps, r.cfg_scale) for r in painter.requests] == [
        *([("Euler", "Uniform", 4, 1.5)] * 3),
        *([("Heun", "Karras", 4, 1.5)] * 3),
    ]
    assert (good["concept_accuracy"], good["background_accuracy"], good["told"]) == (1.0, 1.0, False)
    assert (bad["concept_accuracy"], bad["told"]) == (0.0, True)
    assert good["fidelity"] > bad["fidelity"] > 5
    assert [json.loads(line) for line in keep.read_text().splitlines()] == [good, bad]
    assert measured(*reversed(pairs)) == [bad, good]
    assert painter.requests == []
    measured(*pairs[:1], steps=5)
    assert len(painter.requests) == 3


def row(sampler: str, schedule: str, share: float, *, told: bool = False, ground: float = 1.0) -> dict[str, Any]:
    return {
        "sampler": sampler,
        "schedule": schedule,
        "concept_accuracy": share,
        "background_accuracy": ground,
        "fidelity": 20.0 + share,
        "told": told,
    }


def test_the_section_says_what_is_behind(bench: ModuleType) -> None:
    rows = [
        row("Euler", "Uniform", 1.0),
        row("Heun", "Uniform", 0.95),
        row("Euler", "Karras", 0.5, told=True),
        row("Heun", "Karras", 0.96, told=True),
        row("Euler", "Beta", 0.94, ground=0.5),
    ]
    about = {"date": "2026-11-30", "concepts": 16, "steps": 30, "model": MODEL}
    text = bench.markdown({**about, "machine": {"cpu": "a CPU", "torch": "2.13"}, "results": rows})
    assert [line for line in text.splitlines() if line.startswith("| ")] == [
        "| schedule | Euler | Heun |",
        "| --- | --- | --- |",
        "| Uniform | 100 %, 21.0 | 95 %, 20.9 |",
        "| Karras | 50 %, 20.5* | 96 %, 21.0* |",
        "| Beta | 94 % (50 %), 20.9 |  |",
    ]
    assert "abababab" in text
    assert "16 concepts in 30 steps" in text
    assert text.endswith(
        "More than 5 points behind the best without a warning: Euler with Beta.\n"
        "Warned of but not behind: Heun with Karras."
    )
    page = "a\n<!-- pairs -->\nold\n<!-- /pairs -->\nb\n"
    assert bench.alone.replaced(page, text, "pairs") == f"a\n<!-- pairs -->\n\n{text}\n\n<!-- /pairs -->\nb\n"
    assert bench.alone.PAGE.read_text(encoding="utf-8").count("<!-- pairs -->") == 1
