"""Attention, written out and fused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atelier.nn import attention
from atelier.nn.attention import attend

KINDS = [(torch.float32, 1e-6, 1e-5), (torch.bfloat16, 2e-2, 3e-2)]


def drawn(draw: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    rows = (torch.randn(2, 3, n, 8, generator=draw).to(dtype) for n in (5, 7, 7))
    return [row.requires_grad_() for row in rows]


@pytest.mark.parametrize(("dtype", "close", "gradients_close"), KINDS)
def test_attention_written_out_for_gradients_is_the_fused_one(
    dtype: torch.dtype, close: float, gradients_close: float
) -> None:
    """With and without gradients: the same result; and the gradients of torch's own kernel."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = drawn(draw, dtype)
    ours = attend(query, key, value)
    with torch.no_grad():
        assert torch.allclose(attend(query, key, value), ours, atol=close)
    theirs = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    weight = torch.randn(ours.shape, generator=draw).to(dtype)
    gradients = (torch.autograd.grad((out * weight).sum(), (query, key, value)) for out in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        assert torch.allclose(mine, other, atol=gradients_close)


def test_it_is_written_out_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """For gradients, in bfloat16, and on small maps alone."""
    fused: list[int] = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def watched(*given: Tensor, is_causal: bool) -> Tensor:
        fused.append(1)
        return kernel(*given, is_causal=is_causal)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    draw = torch.Generator().manual_seed(0)

    def uses_the_kernel(dtype: torch.dtype) -> bool:
        fused.clear()
        attend(*drawn(draw, dtype))
        return bool(fused)

    assert uses_the_kernel(torch.float32)
    assert not uses_the_kernel(torch.bfloat16)
    with torch.no_grad():
        assert uses_the_kernel(torch.bfloat16)
    monkeypatch.setattr(attention, "SMALL", 5 * 7 - 1)
    assert uses_the_kernel(torch.bfloat16)
    monkeypatch.setattr(attention, "SMALL", 5 * 7)
    assert not uses_the_kernel(torch.bfloat16)
