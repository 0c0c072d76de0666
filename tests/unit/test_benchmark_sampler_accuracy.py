"""The benchmark of samplers: which it takes, how it counts and what it writes; the images are made up here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from atelier.diffusion.catalogue import samplers
from atelier.request.model import Request
from atelier.train.data import scenes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("sampler_accuracy", BENCHMARKS / "sampler_accuracy.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


class Painter:
    """An engine that draws what the prompt names, for the samplers in `able`."""

    def __init__(self, able: set[str]) -> None:
        self.able, self.requests = able, list[Request]()

    def generate(self, request: Request) -> list[Any]:
        self.requests.append(request)
        wanted = max((c for c in scenes.concepts() if c.name in request.prompt), key=lambda c: len(c.name))
        background = next(k for k in scenes.BACKGROUNDS if f"{k} background" in request.prompt)
        image = Image.new("RGB", (64, 64), tuple(scenes.BACKGROUNDS[background]))
        if request.sampler in self.able:
            image = Image.fromarray(scenes.render(scenes.large(wanted.name, background), 64))
        return [SimpleNamespace(image=image)]


@pytest.fixture
def made(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Painter:
    monkeypatch.setattr(bench, "_defaults", lambda *_: SimpleNamespace(cfg_scale=5.0, width=64))
    return Painter({"DPM++ 2M", "Euler CFG++"})


def row(bench: ModuleType, made: Painter, name: str, **more: Any) -> dict[str, Any]:
    return bench.measured(made, samplers()[name], bench.trials_of(3), "model", **{"steps": None, **more})


def test_thirty_known_samplers(bench: ModuleType) -> None:
    assert len(bench.STEPS) == 30
    assert set(bench.STEPS) <= set(samplers())
    assert {bench.STEPS[s.name] for s in map(samplers().get, bench.STEPS) if s and bench.deterministic(s)} == {30}
    assert bench.chosen("euler a,k_dpmpp_2m") == ["Euler a", "DPM++ 2M"]


def test_accuracy_is_what_the_judge_sees(bench: ModuleType, made: Painter) -> None:
    good, bad = row(bench, made, "DPM++ 2M"), row(bench, made, "Euler a", steps=4)
    assert (good["concept_accuracy"], good["background_accuracy"], good["steps"]) == (1.0, 1.0, 30)
    assert bad["concept_accuracy"] < 0.5
    assert bad["steps"] == 4
    assert {r.steps for r in made.requests} == {30, 4}
    assert len({r.seed for r in made.requests}) == 3


def test_cfg_plus_plus_is_given_its_own_scale(bench: ModuleType, made: Painter) -> None:
    for name, scale in (("Euler CFG++", 0.4), ("DDIM CFG++", 5.0), ("Euler", 5.0)):
        made.requests.clear()
        row(bench, made, name)
        assert {r.cfg_scale for r in made.requests} == {scale}, name


def test_the_section_ranks_and_replaces(bench: ModuleType, made: Painter) -> None:
    rows = [{**row(bench, made, "DPM++ 2M"), "sampler": name} for name in ("Euler a", "DPM++ 2M", "Heun")]
    for measured, accuracy in zip(rows, (0.5, 1.0, 0.96), strict=True):
        measured["concept_accuracy"] = accuracy
    rows[0]["deterministic"] = False
    result = bench._result(rows, "cpu", {"name": "tiny", "path": "/x", "sha256": "ab" * 32}, 3)
    text = bench.markdown(result)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[2].startswith("| DPM++ 2M | Karras | 30 | yes | 100.0 % | 100.0 % | 0.0 |")
    assert len(lines) == 5
    assert "within 4.0 points" in text
    assert "abababab" in text
    page = "a\n<!-- accuracy -->\nold\n<!-- /accuracy -->\nb\n"
    assert bench.replaced(page, text) == f"a\n<!-- accuracy -->\n\n{text}\n\n<!-- /accuracy -->\nb\n"
    assert bench.replaced(bench.PAGE.read_text(encoding="utf-8"), text).count("<!-- accuracy -->") == 1
    with pytest.raises(ValueError, match="no marks"):
        bench.replaced("nothing", text)


def test_chance_is_not_nothing_where_all_are_right(bench: ModuleType) -> None:
    assert bench.spread(1, 32) == pytest.approx(0.03818, abs=1e-4)
    assert bench.spread(0.5, 96) == pytest.approx(0.05)
