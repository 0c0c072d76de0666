"""What a benchmark lacks is one line, whichever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SOURCE = Path(__file__).parents[2] / "src"
SCRIPTS = ("train_step", "unet_call", "golden_true_size", "fake")


def _run(script: str, torch: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The script where the module torch is that text."""
    (folder / "torch.py").write_text(torch, encoding="utf-8")
    command = [sys.executable, str(BENCHMARKS / f"{script}.py")]
    environment = {"PYTHONPATH": f"{folder}:{SOURCE}"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_module_that_is_not_installed(script: str, tmp_path: Path) -> None:
    done = _run(script, "raise ModuleNotFoundError('no', name='torch.nn')", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}.py: torch is not installed: run scripts/test once")
    assert done.stderr.count("\n") == 1


def test_what_atelier_refuses(tmp_path: Path) -> None:
    refusal = "from atelier.errors import BadInput\nraise BadInput('font not found: install it')"
    assert _run("train_step", refusal, tmp_path).stderr == "train_step.py: font not found: install it\n"


def test_a_fault_keeps_its_traceback(tmp_path: Path) -> None:
    assert "Traceback" in _run("train_step", "raise ValueError('a fault')", tmp_path).stderr


@pytest.mark.parametrize("script", ["train_step", "unet_call", "golden_true_size", "cold_start", "load", "memory"])
def test_an_extra_that_is_not_installed(script: str, tmp_path: Path) -> None:
    """A finder that knows no diffusers stands before the others."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'diffusers' else found(name, package)\n"
    )
    command = [sys.executable, str(BENCHMARKS / f"{script}.py")]
    environment = {"PYTHONPATH": f"{tmp_path}:{SOURCE}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stderr.startswith(f"{script}.py: diffusers is not installed")
    assert done.stderr.count("\n") == 1
