"""Changing the precision of floating tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from atelier.errors import BadInput, UnknownName

Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: Mapping[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def precision(name: str) -> torch.dtype:
    """The dtype called fp32, fp16 or bf16. Raises UnknownName."""
    if name not in PRECISIONS:
        raise UnknownName("dtype", name, PRECISIONS)
    return PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """fp32, fp16 or bf16."""
    return next(name for name, known in PRECISIONS.items() if known is dtype)


def cast(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Floating tensors as `dtype`, others as they are; None changes nothing.

    Raises BadInput when a finite value does not fit (beyond 65504 in fp16), rather than writing infinity.
    """
    return {name: _cast(name, tensor, dtype) for name, tensor in tensors.items()}


def _cast(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or tensor.dtype == dtype or not tensor.is_floating_point():
        return tensor
    result = tensor.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(tensor.dtype).max and bool((result.isinf() & tensor.isfinite()).any()):
        raise BadInput(f"{name}: has values too large for {str(dtype).removeprefix('torch.')}; keep fp32 or use bf16")
    return result
