"""How much each position of a U-Net's middle is attended to, for self-attention guidance."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from atelier.nn.ports import AttentionLayer, Ports


@dataclass(frozen=True, slots=True)
class Watched:
    """Collects, call by call of the network, how much each position is attended to: (B, H, W), 1 on average.

    Of the first self-attention of the middle: the mean over the heads, the sum over the queries (Hong et al. 2022,
    arXiv:2210.00939, equation 8). For one call of a denoiser; made anew for the next.
    """

    maps: list[Tensor] = field(default_factory=list[Tensor])

    @property
    def ports(self) -> Ports:
        return Ports(attention={"middle.attention.blocks.0.attn1": self._look})

    def _look(
        self, layer: AttentionLayer, _x: Tensor, query: Tensor, key: Tensor, _value: Tensor, attended: Tensor, /
    ) -> Tensor:
        scores = query.float() * query.shape[-1] ** -0.5 @ key.float().transpose(-2, -1)
        self.maps.append(scores.softmax(-1).mean(1).sum(1).unflatten(1, layer.grid))
        return attended
