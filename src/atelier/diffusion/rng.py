"""Streams of noise: one per image, so that neither batch size nor device ever changes an image.

A stream hands out unit normals, float32, on the CPU, in the exact shape of one image's latent; they are moved to the
device afterwards. Three sources:

portable  Philox keyed by the seed, counter (element, draw); the same bits on every machine (see `philox`). The default.
cpu       torch's CPU generator: what A1111's "CPU" and diffusers' CPU generators draw. Its Box-Muller step goes through
          the CPU's vector unit, so the last bit of a value may differ between kinds of CPU.
nv        the Philox layout of an NVIDIA device: what A1111's "NV" draws, and "GPU" on an NVIDIA card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from atelier.diffusion.philox import cuda_normals, normals
from atelier.diffusion.types import NoiseSource
from atelier.errors import BadInput, UnknownName

DEFAULT_SOURCE = "portable"
_SEQUENCE = 0  # the third word of the counter says what a draw is for; `brownian` has its own


class Stream(Protocol):
    """One image's noise, in order."""

    def normal(self, shape: Sequence[int], /) -> Tensor:
        """The next draw: unit normals of this shape, float32, on the CPU."""
        ...


class PortableStream:
    """Draw k of seed s, element n: a pure function of (s, k, n)."""

    def __init__(self, seed: int) -> None:
        self._seed, self._draws = seed, 0

    def normal(self, shape: Sequence[int], /) -> Tensor:
        drawn = normals(self._seed, (self._draws, 0, _SEQUENCE), _size(shape))
        self._draws += 1
        return torch.from_numpy(drawn).reshape(*shape)


class TorchStream:
    """A torch CPU generator of its own; the global one is never touched."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def normal(self, shape: Sequence[int], /) -> Tensor:
        return torch.randn(tuple(shape), generator=self._generator)


class CudaStream:
    """What successive torch.randn calls draw on a CUDA device, made here."""

    def __init__(self, seed: int) -> None:
        self._seed, self._draws = seed, 0

    def normal(self, shape: Sequence[int], /) -> Tensor:
        drawn = cuda_normals(self._seed, self._draws, _size(shape))
        self._draws += 1
        return torch.from_numpy(drawn).reshape(*shape)


SOURCES: Mapping[str, Callable[[int], Stream]] = MappingProxyType(
    {"portable": PortableStream, "cpu": TorchStream, "nv": CudaStream}
)
_ALIASES = {"philox": "portable", "default": "portable", "gpu": "nv", "cuda": "nv"}


def source_named(name: str) -> str:
    """The name of a noise source, whatever its case; "gpu" is "nv". Raises UnknownName."""
    key = name.strip().lower()
    key = _ALIASES.get(key, key)
    if key not in SOURCES:
        raise UnknownName("noise source", name, SOURCES)
    return key


def stream(seed: int, source: str = DEFAULT_SOURCE) -> Stream:
    """The stream of one image. Raises BadInput for a seed outside -2^63 to 2^64 - 1, UnknownName for a source."""
    if not -(2**63) <= seed < 2**64:
        raise BadInput(f"seed {seed} is out of range: use -2^63 to 2^64 - 1")
    return SOURCES[source_named(source)](seed)


def streams(seeds: Sequence[int], source: str = DEFAULT_SOURCE) -> tuple[Stream, ...]:
    """One stream per image of a batch."""
    return tuple(stream(seed, source) for seed in seeds)


def draw(of: Sequence[Stream], shape: Sequence[int]) -> Tensor:
    """The next draw of every image, stacked: float32 (B, *shape) on the CPU; `shape` is one image's."""
    return torch.stack([s.normal(shape) for s in of])


def fresh(of: Sequence[Stream], like: Tensor) -> NoiseSource:
    """A source that takes each image's next draw, whatever the levels; for latents like `like` (B, C, h, w)."""

    def noise(_sigma: Tensor, _following: Tensor) -> Tensor:
        return draw(of, like.shape[1:]).to(like)

    return noise


def silent(_sigma: Tensor, _following: Tensor) -> Tensor:
    """The source of samplers that use no noise. Raises RuntimeError if one asks."""
    raise RuntimeError("a sampler without noise asked for some")


def _size(shape: Sequence[int]) -> int:
    return torch.Size(shape).numel()
