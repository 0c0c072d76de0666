"""How many threads, and what they do while they wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import atelier
import tiny
import tiny_sd
from atelier.checkpoints.write import write_ldm
from atelier.cli.app import run
from atelier.request.table import request_of
from atelier.runtime.threads import free_cores, prepare_torch, suit_threads_to, use_free_cores, use_granted_cores

NO_LIMIT = "max 100000\n"


@pytest.mark.parametrize(
    ("cores", "quota", "load", "free"),
    [
        (8, NO_LIMIT, "0.10 0.05 0.01 1/523 12345\n", 8),
        (8, NO_LIMIT, "2.10 1.05 0.51 3/523 12345\n", 6),
        (2, NO_LIMIT, "2.10 1.05 0.51 3/523 12345\n", 1),
        (8, NO_LIMIT, "90.00 80.00 70.00 91/999 12345\n", 1),
        (8, NO_LIMIT, "0.00 0.00 0.00 0/523 12345\n", 8),
        (8, "200000 100000\n", "0.10 0.05 0.01 1/523 12345\n", 2),
        (8, "200000 100000\n", "5.00 5.00 5.00 6/523 12345\n", 2),
        (8, "200000 100000\n", "7.00 7.00 7.00 8/523 12345\n", 1),
        (8, "150000 100000\n", "0.10 0.05 0.01 1/523 12345\n", 1),
        (8, "50000 100000\n", "0.10 0.05 0.01 1/523 12345\n", 1),
        (8, "", "", 8),
        (8, "nonsense", "0.1 0.2", 8),
    ],
)
def test_free_cores_are_those_that_nobody_else_uses(
    tmp_path: Path, cores: int, quota: str, load: str, free: int
) -> None:
    """/proc/loadavg: three averages, then the threads that run now (this one too) of all, then the last process."""
    (tmp_path / "cpu.max").write_text(quota)
    (tmp_path / "loadavg").write_text(load)
    assert free_cores(cores, tmp_path / "cpu.max", tmp_path / "loadavg") == free


def test_a_system_that_says_nothing_has_all_cores_free(tmp_path: Path) -> None:
    assert free_cores(4, tmp_path / "none", tmp_path / "none") == 4


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What torch's threads were set to, at last; 8 of them to begin with, on a machine of 8 cores."""
    set_to = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: set_to[-1])
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    return set_to


@pytest.mark.parametrize(
    ("text", "expected"),
    [("150000 100000", 1), ("250000 100000", 2), ("max 100000", 8), ("", 8), ("1600000 100000", 8)],
)
def test_threads_are_no_more_than_the_granted_cores(
    tmp_path: Path, threads: list[int], text: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    use_granted_cores(tmp_path / "cpu.max")
    assert threads[-1] == expected


@pytest.mark.parametrize(("load", "expected"), [("1/9 1", 8), ("4/9 1", 5), ("99/999 1", 1)])
def test_threads_are_no_more_than_the_free_cores(tmp_path: Path, threads: list[int], load: str, expected: int) -> None:
    (tmp_path / "loadavg").write_text(f"0.0 0.0 0.0 {load}\n")
    use_free_cores(tmp_path / "none", tmp_path / "loadavg")
    assert threads[-1] == expected


def test_threads_are_never_raised(tmp_path: Path, threads: list[int]) -> None:
    threads.append(3)
    (tmp_path / "loadavg").write_text("0.0 0.0 0.0 1/9 1\n")
    use_free_cores(tmp_path / "none", tmp_path / "loadavg")
    assert threads[-1] == 3


@pytest.mark.parametrize(
    ("work", "before", "environment", "after"),
    [
        (40_000_000_000, 2, {}, 1),
        (40_000_000_001, 2, {}, 2),
        (1, 3, {}, 3),
        (1, 2, {"OMP_NUM_THREADS": "2"}, 2),
    ],
)
def test_small_networks_have_one_thread_in_place_of_two(
    threads: list[int], work: int, before: int, environment: dict[str, str], after: int
) -> None:
    threads.append(before)
    suit_threads_to(work, environment)
    assert threads[-1] == after


def test_the_work_of_a_call_is_weights_times_positions(tiny_folder: Path) -> None:
    engine = atelier.engine(device="cpu")
    model = engine.resources.open(tiny_folder)
    weights = sum(p.numel() for p in model.load(model.family.parts[0], torch.float32).parameters())
    work = engine.work(atelier.Request(prompt="", model=str(tiny_folder), width=64, height=128, batch_size=3))
    assert work == weights * 2 * (64 * 128 // model.latent.factor**2), "one image a call on the CPU, and guidance"


@pytest.mark.parametrize(
    ("more", "positions"),
    [
        ({"hires_upscale": 2.0}, 32 * 32),
        ({"hires_resize": (96, 128)}, 24 * 32),
        ({"hires_steps": 5}, 16 * 16),
        ({"image": "{image}", "outpaint": "left=64,bottom=8"}, 32 * 18),
        ({"image": "{image}", "outpaint": "left=64", "hires_upscale": 2.0}, 64 * 32),
        ({"view_method": "mixture", "view_width": 96, "view_height": 64, "hires_upscale": 3.0}, 24 * 16),
        ({"image": "nowhere.png", "outpaint": "left=64"}, 16 * 16),
        ({"hires_upscale": 16.0, "width": 4096}, 16 * 16),
    ],
)
def test_every_pass_and_every_canvas_counts(
    tiny_folder: Path, tmp_path: Path, more: dict[str, object], positions: int
) -> None:
    """Positions of 4 pixels; the model's own size is 64."""
    Image.new("RGB", (64, 64)).save(tmp_path / "image.png")
    path = str(tmp_path / "image.png")
    named = {name: path if value == "{image}" else value for name, value in more.items()}
    engine, own = atelier.engine(device="cpu"), {"prompt": "", "model": str(tiny_folder)}
    plain = engine.work(request_of(own))
    assert engine.work(request_of({**own, **named})) * 16 * 16 == plain * positions


def test_the_models_of_a_second_pass_and_a_refiner_count(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: a network of more weights counts where it acts, each pass with its own size."""
    write_ldm(tiny_sd.sdxl(), tmp_path / "large.safetensors")
    monkeypatch.setenv("ATELIER_MODELS", str(tmp_path))
    engine, own = atelier.engine(device="cpu"), {"prompt": "", "model": str(tiny_folder)}
    large, small = (
        sum(p.numel() for p in made.networks["unet"].parameters()) for made in (tiny_sd.sdxl(), tiny.modules())
    )
    first, second = 2 * 16 * 16, 2 * 32 * 32
    twice = {**own, "hires_upscale": 2.0}
    expected = (
        ({**own, "refiner": "large"}, large * first),
        ({**own, "refiner": "nothing"}, small * first),
        ({**own, "refiner": "None"}, small * first),
        ({**twice, "hires_checkpoint": "large"}, large * second),
        ({**twice, "refiner": "large"}, large * second),
        ({**twice, "refiner": "large", "refiner_switch_at": 1.0}, small * second),
        ({**own, "model": str(tmp_path / "large.safetensors"), "refiner": str(tiny_folder)}, large * first),
    )
    assert [engine.work(request_of(fields)) for fields, _ in expected] == [work for _, work in expected]


def test_the_command_line_suits_its_threads_to_the_model(
    tiny_folder: Path, threads: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)  # free ones are left over, whatever else runs
    threads.append(2)
    assert run(["generate", "a red cat", "--model", str(tiny_folder), "--steps", "1", "-o", str(tmp_path)]) == 0
    assert threads[-1] == 1


def test_threads_wait_passively_and_pages_are_huge_unless_somebody_said_otherwise() -> None:
    environment: dict[str, str] = {}
    prepare_torch(environment)
    assert environment == {"OMP_WAIT_POLICY": "passive", "THP_MEM_ALLOC_ENABLE": "1"}
    own = {"OMP_WAIT_POLICY": "active", "THP_MEM_ALLOC_ENABLE": "0"}
    prepare_torch(own)
    assert own == {"OMP_WAIT_POLICY": "active", "THP_MEM_ALLOC_ENABLE": "0"}


def torch_asks_for_huge_pages(environment: dict[str, str]) -> bool:
    """Whether the system knows of a wish for huge pages (hg) in a child that holds a tensor of 64 MiB."""
    program = "import torch; held = torch.ones(2**24); print(open('/proc/self/smaps').read())"
    made = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return any(" hg" in line for line in made.stdout.splitlines() if line.startswith("VmFlags:"))


def test_torch_knows_the_variable_of_huge_pages() -> None:
    prepared: dict[str, str] = {}
    prepare_torch(prepared)
    assert torch_asks_for_huge_pages(prepared) is Path("/sys/kernel/mm/transparent_hugepage/enabled").exists()
    assert not torch_asks_for_huge_pages({"THP_MEM_ALLOC_ENABLE": "0"})


SPY = """
import importlib.abc, os, sys

class Spy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            print("torch sees", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Spy())
"""
COMMAND_LINE = """
sys.argv = ["atelier", "generate", "a red cat"]
from atelier.cli.app import main
main()
"""
LIBRARY = """
import atelier
atelier.generate("a red cat")
"""


def torch_sees(program: str, cwd: Path, policy: str | None) -> str:
    """What the variable is when a child first asks for torch, which ends it."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if policy is None else {"OMP_WAIT_POLICY": policy}
    environment["PYTHONPATH"] = str(Path(atelier.__file__).parents[1])
    made = subprocess.run(
        [sys.executable, "-c", SPY + program], env=environment, cwd=cwd, capture_output=True, text=True, check=True
    )
    return made.stdout


@pytest.mark.parametrize(
    ("program", "policy", "seen"),
    [
        (COMMAND_LINE, None, "passive"),
        (COMMAND_LINE, "active", "active"),
        (LIBRARY, None, "None"),
    ],
    ids=["command line", "an own setting", "library"],
)
def test_torch_is_loaded_after_the_policy_is_set(tmp_path: Path, program: str, policy: str | None, seen: str) -> None:
    assert torch_sees(program, tmp_path, policy) == f"torch sees {seen}\n"


def test_a_library_call_leaves_its_process_as_it_was(tiny_folder: Path) -> None:
    before = torch.get_num_threads(), torch.get_num_interop_threads(), dict(os.environ)
    atelier.generate("a red cat", model=str(tiny_folder), steps=1, seed=1)
    atelier.engine().generate(atelier.Request(prompt="a red cat", model=str(tiny_folder), steps=1, seed=1))
    assert (torch.get_num_threads(), torch.get_num_interop_threads(), dict(os.environ)) == before
