"""A file that changes while it is read, folders of somebody else, and no memory: one line, exit code 2, and what was
loaded before still works."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tiny
from atelier.errors import BadFile, BadInput
from atelier.pipeline.resources import AUTOENCODER, DENOISER, TEXT
from atelier.request.resolved import ModelRef
from atelier.runtime import resources
from atelier.runtime.cache import ModelCache, NetRef
from atelier.runtime.device import Device, free_memory
from atelier.runtime.engine import Engine
from atelier.runtime.resources import forecast
from atelier.weights.archive import open_any
from atelier.weights.formats.filling import Filler, Stretch
from pipeline_support import CPU, PLENTY, engine_on, request

GB = 10**9


@pytest.fixture
def engine(tiny_folder: Path) -> Engine:
    """With a model in memory."""
    own = engine_on(tiny_folder, budget=PLENTY)
    own.generate(request(steps=1))
    return own


# A file that changes


def while_read(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls `change` after the first tensor of a file has been read."""
    read, left = Filler.fill, [change]

    def changing(self: Filler, part: Stretch) -> None:
        read(self, part)
        if left:
            left.pop()()

    monkeypatch.setattr(Filler, "fill", changing)


def written_over(path: Path) -> None:
    """As a program that writes the same file again: of the same size, with other numbers."""
    data = bytearray(path.read_bytes())
    data[-1000:] = bytes(1000)
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(1, 1))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(("change", "said"), [(written_over, "changed while"), (cut, "shrank while")])
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    change: Callable[[Path], None], said: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.single_file(tmp_path / "model.safetensors")
    if kind == "pth":
        torch.save(load_file(path), tmp_path / "model.pth")
        path = tmp_path / "model.pth"
    archive = open_any(path)
    while_read(lambda: change(path), monkeypatch)
    with pytest.raises(BadFile, match=f"model.{kind}: {said} it was being read"):
        archive.load(archive.tensors, mapped=False)


def test_what_was_loaded_before_a_file_changed_still_works(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = engine.generate(request(steps=1))[0].image.tobytes()
    path = tiny.single_file(tmp_path / "other.safetensors")
    with monkeypatch.context() as patch:
        while_read(lambda: written_over(path), patch)
        with pytest.raises(BadFile, match=r"other\.safetensors: changed while it was being read"):
            engine.generate(request(model=str(path), steps=1))
    assert engine.generate(request(steps=1))[0].image.tobytes() == before
    assert len(engine.generate(request(model=str(path), steps=1))) == 1, "as it is now"


# Somebody else's files

LOCKED = "import json, sys; from atelier.cli.app import run; [print(run(a)) for a in json.loads(sys.argv[1])]"


def without_rights() -> None:
    """Takes from root what lets it read everything: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    if os.getuid() == 0:
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="takes root's rights away as Linux does")
def test_what_may_not_be_read_or_written_is_one_line_each(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    one, locked = tiny.single_file(models / "one.safetensors"), tiny.folder(models / "locked")
    tiny.folder(models / "open")
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png")
    for path in (one, locked / "unet", tmp_path / "in.png"):
        path.chmod(0)
    (tmp_path / "out").mkdir(mode=0o555)
    source, out = str(tmp_path / "in.png"), str(tmp_path / "out")
    commands = [
        ["generate", "x", "--model", "one"],
        ["generate", "x", "--model", "locked"],
        ["generate", "x", "--model", "open", "--steps", "1", "--image", source],
        ["generate", "x", "--model", "open", "--steps", "1", "--output", out],
        ["info", source],
        ["models", "list"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", LOCKED, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=without_rights,
        env=os.environ | {"ATELIER_MODELS": str(models), "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    (locked / "unet").chmod(0o755)
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands) - 1
    denied = "cannot be read (Permission denied)"
    assert lines[:4] == [
        f"atelier: {one}: {denied}",
        f"atelier: {locked / 'unet' / 'config.json'}: {denied}",
        f"atelier: {source}: {denied}",
        f"atelier: {out}: cannot be written (Permission denied): choose another folder",
    ]
    assert done.stdout.splitlines()[:5] == ["2"] * 5
    table = done.stdout.splitlines()[5:]
    assert table[-1] == "0"
    assert [line.split()[0] for line in table[:-1]] == ["embedded", "locked", "one", "open"], "the others are listed"
    assert "unusable: it cannot be read (Permission denied)" in table[1]
    assert "Stable Diffusion 1.x" in table[3]


# No memory


def test_a_model_that_does_not_fit_is_refused_with_numbers(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.single_file(tmp_path / "large.safetensors")
    before = engine.generate(request(steps=1))[0].image.tobytes()
    monkeypatch.setattr(resources, "free_memory", lambda _: 4)
    monkeypatch.setattr(resources, "forecast", lambda *_: 5 * GB)
    with pytest.raises(BadInput) as caught:
        engine.generate(request(model=str(path), steps=1))
    assert str(caught.value) == (
        "large: its text needs 5.0 GB of memory, and 0.0 GB are free: set ATELIER_DTYPE=bf16, end other programs, or "
        "choose a smaller model"
    )
    monkeypatch.setattr(resources, "free_memory", lambda _: 5 * GB)
    assert engine.generate(request(steps=1))[0].image.tobytes() == before


def test_what_nobody_uses_makes_room_first(engine: Engine, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 1 byte were free beside what is in memory; half of that is all that is asked for."""
    held = engine.resources.cache.bytes
    monkeypatch.setattr(resources, "free_memory", lambda _: 1 + held - engine.resources.cache.bytes)
    monkeypatch.setattr(resources, "forecast", lambda *_: held // 2)
    kept = len(engine.resources.cache.held())
    engine.resources._check_room(engine.resources.open(tiny_folder), "denoiser")  # pyright: ignore[reportPrivateUsage]
    assert 0 < len(engine.resources.cache.held()) < kept


def test_the_forecast_is_what_is_then_in_memory(tiny_folder: Path) -> None:
    model = engine_on(tiny_folder).resources.open(tiny_folder)
    for role, part in ((DENOISER, "unet"), (TEXT, "text"), (AUTOENCODER, "vae")):
        count = sum(p.numel() for p in tiny.modules().networks[part].parameters())
        assert forecast(model, role.name, CPU) == 4 * count
        half = Device(CPU.torch_device, torch.bfloat16, torch.float32, max_batch=1)
        assert forecast(model, role.name, half) == (4 if role is AUTOENCODER else 2) * count
    assert forecast(model, "tiny autoencoder", CPU) == 0


def test_free_memory_is_the_machines_or_the_containers(tmp_path: Path) -> None:
    cpu, info, group = torch.device("cpu"), tmp_path / "meminfo", tmp_path / "group"
    info.write_text("MemTotal:  100 kB\nMemAvailable:   30 kB\nSwapFree:  2 kB\nHugePages_Total: 0\n")
    assert free_memory(cpu, info, group) == 32 * 1024
    group.mkdir()
    (group / "memory.max").write_text("20000\n")
    (group / "memory.current").write_text("15000\n")
    assert free_memory(cpu, info, group) == 5000
    (group / "memory.stat").write_text("anon 14000\nfile 1000\n")
    assert free_memory(cpu, info, group) == 6000
    (group / "memory.max").write_text("max\n")
    assert free_memory(cpu, info, group) == 32 * 1024
    assert free_memory(cpu, tmp_path / "none", group) is None
    assert free_memory(torch.device("mps"), info, group) is None


def test_a_cache_frees_as_much_as_is_asked_for() -> None:
    cache = ModelCache(100)
    for name in "abc":
        key: NetRef[str] = NetRef(ModelRef(name=name, path=name, sha256=name), "denoiser", "fp32")
        with cache.lease(key, lambda: "", lambda _: 10):
            pass
    cache.free(11)
    assert [key.model.name for key in cache.held()] == ["c"]
