"""How families put the states of their text encoders together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atelier.families.family import Join

if TYPE_CHECKING:
    from atelier.nn.ports import Conditioning


def side_by_side(pooled: int) -> Join:
    """The channels of all towers behind one another, (N, T, C1 + C2 …), with the pooled state of tower `pooled`."""

    def join(states: Sequence[Conditioning]) -> Conditioning:
        import torch

        from atelier.nn.ports import Conditioning

        return Conditioning(torch.cat([own.tokens for own in states], dim=-1), states[pooled].pooled)

    return join
