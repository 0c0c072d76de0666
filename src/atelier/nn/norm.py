"""Group normalization over a map that is only seen in parts (Wu & He 2018, arXiv:1803.08494, equations 1 and 7)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Moments:
    """Of each group of channels over a whole map, (B, groups), float32: its mean and its variance."""

    mean: Tensor
    variance: Tensor


@dataclass(slots=True)
class Gathered:
    """Moments of a map that is seen part by part, in double precision: Chan, Golub & LeVeque 1983, equation 2.1."""

    groups: int
    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, part: Float[Tensor, "b c h w"]) -> None:
        """Another part of the map, of any height and width."""
        values = part.float().reshape(part.shape[0], self.groups, -1)
        count = values.shape[2]
        variance, mean = (t.double() for t in torch.var_mean(values, dim=2, correction=0))
        total, apart = self.count + count, mean - self.mean.to(mean)
        self.squares = self.squares.to(mean) + variance * count + apart**2 * (self.count * count / total)
        self.mean = self.mean.to(mean) + apart * (count / total)
        self.count = total

    def moments(self) -> Moments:
        """Of all that was added, which must be something."""
        return Moments(self.mean.float(), (self.squares / self.count).float())


class GroupNorm(nn.GroupNorm):
    """Group normalization that may be told the moments of the whole, where its input is a part of it."""

    def forward(self, input: Float[Tensor, "b c h w"], moments: Moments | None = None) -> Tensor:  # noqa: A002 - torch's own name
        if moments is None:
            return super().forward(_safe(input, self.weight))
        each = self.num_channels // self.num_groups
        factor = (moments.variance + self.eps).rsqrt().repeat_interleave(each, 1) * self.weight.float()
        offset = self.bias.float() - moments.mean.repeat_interleave(each, 1) * factor
        return torch.addcmul(offset[..., None, None], input.float(), factor[..., None, None]).to(input.dtype)


def _safe(x: Tensor, weight: Tensor) -> Tensor:
    """x, in an order in memory in which torch 2.13 computes the gradient of the weight: on CPUs its backward pass ends
    the process where x lies channels last and has no gradient itself, as when layers after the first alone are trained.
    """
    if torch.is_grad_enabled() and weight.requires_grad and not x.requires_grad:
        return x.contiguous()
    return x
