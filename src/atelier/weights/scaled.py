"""Float8 with scales, as ComfyUI writes it: each weight is divided by a number that lies beside it.

A layer `x` keeps `x.weight` in float8 and `x.scale_weight` (later `x.weight_scale`) with one number. What its input
would be scaled by, marks of the whole file and settings of kernels say nothing of the weights, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.weights.archive import Archive, TensorInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SCALES = (".scale_weight", ".weight_scale")
BESIDE = (".scale_input", ".input_scale", ".comfy_quant")
MARK = "scaled_fp8"
KIND = "BF16"
"""What the products are where nobody says: float8 cannot hold them."""
FLOAT8 = ("F8_E4M3", "F8_E5M2")


@dataclass(frozen=True, slots=True)
class Scaled:
    """An `Archive` of the weights themselves; made by `unscaled`. scales: of which tensor which other is the scale."""

    archive: Archive
    scales: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]

    @property
    def path(self) -> Path:
        return self.archive.path

    @property
    def files(self) -> tuple[Path, ...]:
        return self.archive.files

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.archive.metadata

    def load(
        self,
        names: Iterable[str],
        *,
        dtype: torch.dtype | None = None,
        mapped: bool = True,
        channels_last: bool = False,
    ) -> dict[str, Tensor]:
        """The tensors times their scales, as `KIND` where no `dtype` is given."""
        import torch

        wanted = list(names)
        plain = [name for name in wanted if name not in self.scales]
        found = self.archive.load(plain, dtype=dtype, mapped=mapped, channels_last=channels_last)
        for name in wanted:
            if name in self.scales:
                found[name] = self._product(name, dtype or torch.bfloat16, channels_last=channels_last)
        return found

    def _product(self, name: str, dtype: torch.dtype, *, channels_last: bool) -> Tensor:
        """One weight, so that no more than one is in memory twice."""
        import torch

        weight = self.archive.load((name,), dtype=torch.float32, channels_last=channels_last)[name]
        scale = self.archive.load((self.scales[name],), dtype=torch.float32)[self.scales[name]]
        return (weight * scale.reshape(())).to(dtype)


@dataclass(frozen=True, slots=True)
class _Info:
    """What the product of a weight and its scale is; bytes: of the weight on disk."""

    shape: tuple[int, ...]
    count: int
    bytes: int
    dtype: str = KIND


def unscaled(archive: Archive) -> Archive:
    """The archive with the weights that its float8 stands for; itself where it has no scales."""
    scales = dict(_scales(archive))
    if not scales:
        return archive
    left_out = {*scales.values(), *(name for name in archive.tensors if _is_beside(name))}
    tensors = {
        name: _Info(info.shape, info.count, info.bytes) if name in scales else info
        for name, info in archive.tensors.items()
        if name not in left_out
    }
    return Scaled(archive, MappingProxyType(scales), MappingProxyType(tensors))


def _scales(archive: Archive) -> Iterable[tuple[str, str]]:
    """Each weight in float8 that has one number for a scale, and the name of the scale."""
    for name, info in archive.tensors.items():
        for ending in SCALES:
            scaled = archive.tensors.get(f"{name.removesuffix(ending)}.weight") if name.endswith(ending) else None
            if scaled is not None and info.count == 1 and scaled.dtype in FLOAT8:
                yield f"{name.removesuffix(ending)}.weight", name


def _is_beside(name: str) -> bool:
    return name.endswith(BESIDE) or name.rpartition(".")[2] == MARK
