"""What a LoRA computes beside a layer in bfloat16: in that precision, and no less exact than the layer itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atelier.adapters.attach import Strong, attached
from atelier.adapters.weight.lora import LowRank

ROWS, WIDE, RANK = 40, 64, 4


class Seen(TorchDispatchMode):
    """Which precisions tensors as large as the layer's output have."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.dtypes |= {t.dtype for t in tree_leaves(made) if isinstance(t, Tensor) and t.numel() >= ROWS * WIDE}
        return made


def layer_and_lora() -> tuple[nn.Linear, LowRank, Tensor]:
    torch.manual_seed(0)
    layer = nn.Linear(WIDE, WIDE).requires_grad_(requires_grad=False)
    up, down = (nn.Parameter(0.3 * torch.randn(shape)) for shape in ((WIDE, RANK), (RANK, WIDE)))
    return layer, LowRank(up, down, None, 0.5), torch.randn(2, ROWS // 2, WIDE)


@pytest.mark.parametrize("way", ["weights in bf16", "autocast"])
def test_nothing_large_is_made_in_float32(way: str) -> None:
    layer, lora, x = layer_and_lora()
    with attached(layer, {"weight": [Strong(lora, 1.0)]}, "hook"):
        exact = layer(x)
        exact.square().sum().backward()
        wanted = [p.grad.clone() for p in (lora.up, lora.down) if p.grad is not None]
    lora.up.grad = lora.down.grad = None
    if way == "weights in bf16":
        layer.to(torch.bfloat16)
    seen, x = Seen(), x.to(torch.bfloat16)
    with attached(layer, {"weight": [Strong(lora, 1.0)]}, "hook"), torch.autocast("cpu", torch.bfloat16):
        with seen:
            made = layer(x)
        assert made.dtype == torch.bfloat16
        made.float().square().sum().backward()
    assert seen.dtypes == {torch.bfloat16}
    assert torch.allclose(made.float(), exact, rtol=0, atol=2**-7 * float(exact.detach().abs().max()))
    for own, gradient in zip((lora.up, lora.down), wanted, strict=True):
        assert own.grad is not None
        assert own.grad.dtype == torch.float32, "factors stay float32"
        assert float((own.grad - gradient).norm() / gradient.norm()) < 0.02


def test_float16_and_float32_are_computed_in_float32() -> None:
    """float16 overflows where a rank's activation is large."""
    layer, lora, x = layer_and_lora()
    with torch.no_grad():
        lora.down.mul_(1e4)
        lora.up.mul_(1e-4)
    wanted = layer(x) + 0.5 * x @ lora.down.T @ lora.up.T
    with torch.no_grad(), attached(layer, {"weight": [Strong(lora, 1.0)]}, "hook"):
        torch.testing.assert_close(layer(x), wanted)
        half = layer.half()(100 * x.half())
    assert bool(half.isfinite().all())
