"""From texts to what the U-Net attends to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atelier.errors import BadInput

if TYPE_CHECKING:
    from atelier.models.clip import ClipText
    from atelier.nn.ports import Conditioning
    from atelier.weights.tokenizer import ClipTokenizer


def clip_states(
    text_model: ClipText, tokenizer: ClipTokenizer, texts: Sequence[str], clip_skip: int = 1
) -> Conditioning:
    """The states of CLIP's text tower after its final norm, (len(texts), positions, width), and the pooled state.

    Texts longer than the tower's positions are cut. clip_skip n takes the states n-1 layers before the last, through
    the same final norm, as A1111 does. Raises BadInput for a clip_skip the tower does not have.
    """
    import torch

    from atelier.nn.ports import Conditioning

    layers = text_model.spec.layers
    if not 1 <= clip_skip <= layers:
        raise BadInput(f"clip skip {clip_skip}: this model's text encoder has {layers} layers, choose 1 to {layers}")
    device = text_model.token_embedding.weight.device
    tokens = torch.tensor([tokenizer.ids(text) for text in texts], dtype=torch.int64, device=device)
    states = text_model(tokens)
    chosen = states.last if clip_skip == 1 else text_model.final_norm(states.hidden[-clip_skip])
    return Conditioning(chosen, states.pooled)
