"""The benchmarks of steering: how a whole is compared with its parts, and that both request what they say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("together", BENCHMARKS / "together.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_a_whole_is_compared_with_what_each_part_adds(bench: ModuleType) -> None:
    """1 + .5 + .5 + .2 + .1 = 2.3 in each round, however fast the machine is in it."""
    seconds = {"plain": 1.0, "canny": 1.5, "depth": 1.5, "reference": 1.2, "lora": 1.1, "whole": 2.53}
    rounds = {kind: (own, 3 * own, own / 2) for kind, own in seconds.items()}
    found = bench.compared(bench.Timing(rounds))
    assert found["ratio"] == 1.1
    assert (found["ours_seconds"], found["reference_seconds"], found["rounds"]) == (2.53, 2.3, 3)
    assert bench.compared(bench.Timing({**rounds, "whole": (2.6, 7.8, 1.3)}))["within"] is False


def test_each_request_has_its_part_alone(bench: ModuleType, tmp_path: Path) -> None:
    asked = {kind: bench.request(tmp_path, 4, kind) for kind in ("plain", *bench.PARTS, "whole")}
    parts = {
        kind: (len(own.steering.controls), len(own.steering.references), "<lora:" in own.prompt)
        for kind, own in asked.items()
    }
    assert parts == {
        "plain": (0, 0, False),
        "canny": (1, 0, False),
        "depth": (1, 0, False),
        "reference": (0, 1, False),
        "lora": (0, 0, True),
        "whole": (2, 1, True),
    }
    assert all(own.hires is not None for own in asked.values())


def test_processor_seconds_are_another_clock(bench: ModuleType) -> None:
    ticks = iter(range(100))
    timing = bench.interleaved({"a": lambda: None}, 2, warmup=1, clock=lambda: float(next(ticks)))
    assert timing.rounds == {"a": (1.0, 1.0)}
