"""Benchmarks that have a tiny size run at it; the timing is tested with calls of known length."""

from __future__ import annotations

import importlib.util
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Program = Callable[..., str]


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_harness", BENCHMARKS / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """Runs a script as the program it is, in this process, which has loaded what it loads: what it printed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / script), *arguments])
        ended: object = 0
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as leaving:
            ended = leaving.code
        assert ended in {0, None}
        return capsys.readouterr().out

    return run


def test_rounds_are_interleaved_and_take_turns(harness: ModuleType) -> None:
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in ("ours", "theirs")}
    timing = harness.interleaved(calls, 2, warmup=1)
    assert called == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert [len(seconds) for seconds in timing.rounds.values()] == [2, 2]


def test_the_ratio_is_the_median_of_the_pairs(harness: ModuleType) -> None:
    """A machine that becomes ten times slower in the last round changes the medians, not the ratio."""
    timing = harness.Timing({"ours": (1.0, 2.0, 20.0), "theirs": (2.0, 4.0, 40.0)})
    assert timing.ratio("ours", "theirs") == 0.5
    assert harness.row("call", timing, "ours", "theirs", 0.4)["within"] is False
    assert harness.row("call", timing, "ours", "theirs", 0.5)["within"] is True


def test_peak_memory_sees_what_was_held(harness: ModuleType) -> None:
    before = harness.peak_memory()
    held = bytearray(before + 50_000_000)
    held[::4096] = b"x" * len(held[::4096])
    assert harness.peak_memory() - before >= 45_000_000


def test_unet_call(program: Program) -> None:
    measured: dict[str, Any] = json.loads(program("unet_call.py", "--tiny", "--rounds", "1"))
    assert measured["fp32_difference"] < 1e-4
    assert measured["results"][0]["what"] == "fp32"
    assert measured["results"][0]["ours_seconds"] > 0


def test_train_step(program: Program) -> None:
    measured: dict[str, Any] = json.loads(program("train_step.py", "--tiny", "--rounds", "1", "--batch", "2"))
    assert measured["parameters"]["ours"] == measured["parameters"]["reference"]
    assert measured["results"][0]["reference_seconds"] > 0


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_true_size_comparison_at_a_tiny_size(family: str, program: Program) -> None:
    assert "U-Net" in program("golden_true_size.py", "--tiny", "--family", family)


def test_true_size_comparison_of_stable_diffusion_3_at_a_tiny_size(program: Program) -> None:
    assert program("golden_true_sd3.py", "--tiny", "--size", "3.5-medium")
