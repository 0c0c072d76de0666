"""Which device computes, in which precision and memory layout. The only place that asks the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from atelier.errors import BadInput, UnknownName
from atelier.weights.cast import precision, precision_name

AUTO = "auto"
KINDS = ("cpu", "cuda", "mps")
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
SMALL_NET = 50_000_000
"""Networks of fewer parameters run in fp32: their time goes into overhead, and every CPU generates the same image."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where and how networks run.

    dtype: of the U-Net and the text encoder; vae_dtype: of the autoencoder, whose activations leave fp16's range in
    many published files; max_batch: images per network call (one on the CPU, where a larger batch is no faster and
    would change the last bits of an image; None: a whole batch); small_dtype: of small networks, if they differ;
    image_dtype: of networks that enlarge images: bf16 has fewer steps than an image.
    """

    torch_device: torch.device
    dtype: torch.dtype
    vae_dtype: torch.dtype
    max_batch: int | None
    channels_last: bool = True
    small_dtype: torch.dtype | None = None
    image_dtype: torch.dtype = torch.float32

    def for_net(self, parameters: int) -> torch.dtype:
        """The precision of a network of that many parameters."""
        return self.small_dtype if self.small_dtype is not None and parameters < SMALL_NET else self.dtype

    def __str__(self) -> str:
        return f"{self.torch_device} ({precision_name(self.dtype)})"


def pick(device: str | None = None, dtype: str | None = None) -> Device:
    """The device named (see `choose_device`) with the precision named, else with the fastest that is safe there.

    Raises BadInput for what this machine has not.
    """
    chosen = choose_device(device or AUTO)
    forced = None if dtype is None else precision(dtype)
    match chosen.type:
        case "cuda":
            has_bf16 = _cuda_has_bf16(chosen)
            fast = torch.bfloat16 if has_bf16 else torch.float16
            vae = forced or (fast if has_bf16 else torch.float32)
            return Device(chosen, forced or fast, vae, None, image_dtype=forced or torch.float16)
        case "mps":
            fast = forced or torch.float16
            return Device(chosen, fast, forced or torch.float32, None, channels_last=False, image_dtype=fast)
        case _:
            fast = torch.bfloat16 if cpu_has_bf16() else torch.float32
            full = forced or torch.float32
            return Device(chosen, forced or fast, forced or fast, 1, small_dtype=full, image_dtype=full)


def choose_device(name: str = AUTO) -> torch.device:
    """cpu, cuda, cuda:1, mps; auto is the fastest there is. Raises BadInput for what this machine has not."""
    if name == AUTO:
        return torch.device(_best())
    kind, _, index = name.partition(":")
    if kind not in KINDS or (index and not index.isdigit()):
        raise UnknownName("device", name, (AUTO, *KINDS))
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= there:
        raise BadInput(f"device {name}: this machine has {there or 'none'} of that kind: use {_best()}")
    return torch.device(name)


def training_dtype(device: torch.device, wanted: str = AUTO) -> torch.dtype:
    """The precision of matrix products in training: what is wanted, or bf16 where the hardware has it, else fp32."""
    if wanted != AUTO:
        return precision(wanted)
    has_bf16 = _cuda_has_bf16(device) if device.type == "cuda" else device.type == "cpu" and cpu_has_bf16()
    return torch.bfloat16 if has_bf16 else torch.float32


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; without that, bfloat16 is many times slower than float32."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(
        BF16_FLAGS & set(line.partition(":")[2].split())
        for line in text.splitlines()
        if line.lower().startswith(("flags", "features"))
    )


def memory_of(device: torch.device) -> int:
    """Bytes of memory that the device has; of the CPU and of Apple's GPUs, which share it, those of the machine."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return total
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(
    device: torch.device,
    meminfo: Path = Path("/proc/meminfo"),
    group: Path = Path("/sys/fs/cgroup"),
) -> int | None:
    """Bytes that the device has left, also those that caches would give up; None where the system does not say. A
    container has no more than it was granted."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    known = _numbers(meminfo)
    if device.type != "cpu" or "MemAvailable:" not in known:
        return None
    free = 1024 * (known["MemAvailable:"] + known.get("SwapFree:", 0))
    granted, used = _number(group / "memory.max"), _number(group / "memory.current")
    if granted is None or used is None:
        return free
    return min(free, max(0, granted - used + _numbers(group / "memory.stat").get("file", 0)))


def _numbers(file: Path) -> dict[str, int]:
    """The first number of each line of a file of the system, by the first word; {} where there is none."""
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _number(file: Path) -> int | None:
    """The number in a file of the system; None where there is none, or no limit."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _cuda_has_bf16(device: torch.device) -> bool:
    """From Ampere on; before, torch emulates it."""
    return torch.cuda.get_device_capability(device) >= (8, 0)
