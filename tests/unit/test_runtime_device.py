"""Which device, which precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier.errors import BadInput, UnknownName
from atelier.runtime import device
from atelier.runtime.device import SMALL_NET, choose_device, cpu_has_bf16, pick, training_dtype

INTEL = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_tile\n"
OLDER = "processor\t: 0\nflags\t\t: fpu avx2 avx512f\nbugs : avx512_bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n"


@pytest.mark.parametrize(("text", "has"), [(INTEL, True), (OLDER, False), (ARM, True), ("", False)])
def test_bf16_units_are_read_from_the_flags(tmp_path: Path, text: str, has: bool):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert cpu_has_bf16(path) is has


def test_no_list_of_flags_means_no_bf16(tmp_path: Path):
    assert not cpu_has_bf16(tmp_path / "missing")


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_paints_one_picture_at_a_time_in_what_it_is_fast_at(
    monkeypatch: pytest.MonkeyPatch, has: bool, dtype: torch.dtype
):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: has)
    chosen = pick("cpu")
    assert (chosen.torch_device.type, chosen.max_batch, chosen.for_net(SMALL_NET)) == ("cpu", 1, dtype)
    assert chosen.for_net(SMALL_NET - 1) == torch.float32


@pytest.mark.parametrize(
    ("capability", "dtype", "vae"),
    [((9, 0), torch.bfloat16, torch.bfloat16), ((7, 5), torch.float16, torch.float32)],
)
def test_cuda_takes_bf16_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, vae: torch.dtype
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    chosen = pick()
    assert (chosen.torch_device.type, chosen.max_batch, chosen.dtype, chosen.vae_dtype) == ("cuda", None, dtype, vae)
    assert chosen.for_net(1) == dtype
    assert str(pick("cuda:1", "fp32")) == "cuda:1 (fp32)"
    with pytest.raises(BadInput, match="cuda:2"):
        pick("cuda:2")


def test_a_named_precision_is_taken_whatever_the_size():
    chosen = pick("cpu", "bf16")
    assert chosen.for_net(1) == chosen.for_net(10**9) == chosen.vae_dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "dtype"), [("tpu", None), ("cuda:x", None), ("cpu", "int4")])
def test_unknown_names(name: str, dtype: str | None):
    with pytest.raises(UnknownName, match=r"choose|mean"):
        pick(name, dtype)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BadInput, match=r"device cuda: this machine has none of that kind: use \w+"):
        pick("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def test_training_takes_bf16_only_from_hardware(monkeypatch: pytest.MonkeyPatch):
    cpu, cuda, mps = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))
    for has in (True, False):
        monkeypatch.setattr(device, "cpu_has_bf16", lambda has=has: has)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, has=has: (8, 0) if has else (7, 5))
        best = torch.bfloat16 if has else torch.float32
        assert [training_dtype(d) for d in (cpu, cuda, mps)] == [best, best, torch.float32]
    assert training_dtype(mps, "bf16") == torch.bfloat16
