"""Attention, written out and fused."""

from __future__ import annotations

import torch

from atelier.nn.attention import attend


def test_attention_written_out_for_gradients_is_the_fused_one() -> None:
    """With and without gradients: the same result; and the gradients of torch's own kernel."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 8, generator=draw, requires_grad=True) for n in (5, 7, 7))
    ours = attend(query, key, value)
    with torch.no_grad():
        assert torch.allclose(attend(query, key, value), ours, atol=1e-6)
    theirs = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    weight = torch.randn(ours.shape, generator=draw)
    gradients = (torch.autograd.grad((out * weight).sum(), (query, key, value)) for out in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
