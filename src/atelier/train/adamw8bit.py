"""AdamW that remembers its two moments in a byte each, a quarter of the memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.train.own_optimizer import OwnOptimizer

BLOCK = 256
"""Numbers that share a scale."""
SMALLEST = 4096
"""What has fewer numbers keeps float32 moments: nothing is saved there, and embeddings and norms are touchy."""
REST = 14
"""The last bits of a float32, on which its code does not depend: sign, exponent and nine bits of the fraction do."""
OFFSET = 1 << (31 - REST)
DECADES = 7
"""How far down the codes reach: 10 to the power of minus so many."""


class AdamW8bit(OwnOptimizer):
    """AdamW whose moments lie as codes, uint8, of the parameter's shape, with a scale for every BLOCK of them.

    Source: Dettmers 2021 (arXiv:2110.02861): block-wise dynamic quantization, sections 2.1 and 3.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps})

    def _move(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        step = int(state.get("step", 0)) + 1
        first = _kept(state, "first", parameter, signed=True).lerp_(gradient.float(), 1 - beta1)
        second = _kept(state, "second", parameter, signed=False).mul_(beta2)
        second.addcmul_(gradient.float(), gradient.float(), value=1 - beta2)
        root = (second / (1 - beta2**step)).sqrt_().add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(first, root, value=-group["lr"] / (1 - beta1**step))
        state["step"] = step
        _keep(state, "first", first, signed=True)
        _keep(state, "second", second, signed=False)


@cache
def codes(device: torch.device, *, signed: bool) -> Tensor:
    """The 256 numbers in [-1, 1], or [0, 1], that a byte stands for, ascending.

    Each decade towards zero has half as many, evenly spaced: relative precision where most moments are.
    """
    positive: list[Tensor] = []
    for exponent in range(DECADES):
        count = 2 ** (exponent + (0 if signed else 1))
        edges = torch.linspace(0.1, 1, count + 1, dtype=torch.float64)
        positive.append((edges[1:] + edges[:-1]) / 2 * 10.0 ** (exponent - DECADES + 1))
    halves = torch.cat(positive)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    return torch.cat([halves, -halves, ends] if signed else [halves, ends]).sort().values.float().to(device)


@cache
def _nearest(device: torch.device, *, signed: bool) -> Tensor:
    """The code nearest to a float32, by its first bits: a look-up is many times faster than a search."""
    bits = (torch.arange(-OFFSET, OFFSET, dtype=torch.int32) << REST) + (1 << (REST - 1))
    table = codes(torch.device("cpu"), signed=signed)
    return torch.bucketize(bits.view(torch.float32), (table[1:] + table[:-1]) / 2).to(torch.uint8).to(device)


def quantized(values: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """uint8 codes of the values, in their shape, and the scale of each block, float32."""
    flat = values.reshape(-1)
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    relative = blocks / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    first_bits = (relative.view(torch.int32) >> REST).view(-1) + OFFSET
    nearest = _nearest(values.device, signed=signed).index_select(0, first_bits)
    return nearest[: len(flat)].view(values.shape), scales


def dequantized(code: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """The values, float32, in the shape of their codes."""
    values = codes(code.device, signed=signed).index_select(0, code.reshape(-1).int())
    blocks = F.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK) * scales[:, None]
    return blocks.view(-1)[: len(values)].view(code.shape)


def _kept(state: Mapping[str, Any], name: str, parameter: Tensor, *, signed: bool) -> Tensor:
    """A moment, zero at first."""
    if name not in state:
        return torch.zeros(parameter.shape, device=parameter.device)
    if parameter.numel() < SMALLEST:
        return state[name]
    return dequantized(state[name], state[f"{name}_scale"], signed=signed)


def _keep(state: dict[str, Any], name: str, values: Tensor, *, signed: bool) -> None:
    if values.numel() < SMALLEST:
        state[name] = values
    else:
        state[name], state[f"{name}_scale"] = quantized(values, signed=signed)
