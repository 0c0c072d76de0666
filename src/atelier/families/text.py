"""From token ids to what the U-Net attends to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atelier.errors import BadInput

if TYPE_CHECKING:
    from atelier.models.clip import ClipText
    from atelier.nn.ports import Conditioning


def clip_states(text_model: ClipText, rows: Sequence[Sequence[int]], clip_skip: int = 1) -> Conditioning:
    """The states of CLIP's text tower after its final norm, (rows, positions, width), and the pooled state.

    rows: token ids, all of one length. clip_skip n takes the states n-1 layers before the last, through the same final
    norm, as A1111 does. Raises BadInput for a clip_skip the tower does not have.
    """
    import torch

    from atelier.nn.ports import Conditioning

    layers = text_model.spec.layers
    if not 1 <= clip_skip <= layers:
        raise BadInput(f"clip skip {clip_skip}: this model's text encoder has {layers} layers, choose 1 to {layers}")
    states = text_model(torch.tensor(rows, dtype=torch.int64, device=text_model.token_embedding.weight.device))
    chosen = states.last if clip_skip == 1 else text_model.final_norm(states.hidden[-clip_skip])
    return Conditioning(chosen, states.pooled)
