"""The benchmark of Stable Diffusion XL at its full size: what it makes of two sides, and the names in its file."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from key_lists import key_list

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MINE = {"load_seconds": 4.0, "loaded_peak_bytes": 8, "ended": False}
THEIRS = {"load_seconds": 10.0, "loaded_peak_bytes": 14, "peak_bytes": 20, "seconds": 30.0, "ended": False}


@pytest.fixture
def sdxl(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("sdxl")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("fake_sdxl")


def test_ratios_are_of_like_things(sdxl: ModuleType) -> None:
    rows = sdxl.rows({"load": MINE, "image": {"peak_bytes": 9}, "reference": THEIRS})
    assert [(row["what"], row["ratio"], row["within"]) for row in rows] == [
        ("load_seconds", 0.4, True),
        ("loaded_peak_bytes", 0.571, False),
        ("peak_bytes", 0.45, True),
    ]


def test_a_side_that_was_ended_counts_with_what_it_had(sdxl: ModuleType) -> None:
    ended = {"ended": True, "peak_bytes": 18, "seconds": 12.0}
    rows = sdxl.rows({"load": MINE, "reference": ended})
    assert [(row["ratio"], row["ended"]) for row in rows] == [(0.333, True), (0.444, True)]
    both = [{**own, "load_processor_seconds": 3.0} for own in (MINE, THEIRS)]
    row = sdxl.rows({"load": both[0], "reference": {**both[1], "load_processor_seconds": 12.0}})[1]
    assert (row["what"], row["ratio"]) == ("load_processor_seconds", 0.25)


def test_a_side_that_needs_too_much_ends_itself(sdxl: ModuleType) -> None:
    """300 MB where 200 are allowed: the process says what it had, and is gone before it would have been done."""
    code = (
        "import argparse, sys, time\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import sdxl\n"
        "def greedy(options, found):\n"
        "    block = bytearray(b'x') * 300_000_000\n"
        "    time.sleep(86_400)\n"
        "sdxl.watched(greedy, argparse.Namespace(most=(sdxl.own_memory() + 200e6) / 1e9))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["ended"]
    assert found["peak_bytes"] > 200e6


def test_the_file_has_the_names_and_shapes_of_the_published_one(fake: ModuleType) -> None:
    published = {name: shape for name, shape in key_list("sdxl_base_sgm").items() if not unread(name)}
    assert dict(fake.stored(fake.networks())) == published


def unread(name: str) -> bool:
    return name.endswith(("position_ids", "logit_scale")) or "." not in name or name.startswith("denoiser.")


def test_its_weights_are_random_and_repeat_where_they_are_many(
    fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = torch.randn(64, generator=torch.Generator().manual_seed(1))
    found = fake.random("a.weight", (10, 4, 5), block)
    assert found.dtype == torch.float16
    assert torch.equal(found.flatten()[:64], (block / 20**0.5).half())
    assert torch.equal(found.flatten()[64:128], found.flatten()[:64])
    assert fake.random("a.bias", (3,), block).tolist() == [0, 0, 0]
    assert fake.random("norm.weight", (3,), block).tolist() == [1, 1, 1]


def test_the_settings_are_written_without_weights(fake: ModuleType, tmp_path: Path) -> None:
    from atelier.checkpoints.write import write_settings

    write_settings(fake.networks(), tmp_path / "sdxl")
    files = sorted(path.relative_to(tmp_path / "sdxl").as_posix() for path in (tmp_path / "sdxl").rglob("*.json"))
    assert {"model_index.json", "unet/config.json", "text_encoder_2/config.json", "vae/config.json"} <= set(files)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert json.loads((tmp_path / "sdxl/unet/config.json").read_text())["cross_attention_dim"] == 2048
