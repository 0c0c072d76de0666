"""From texts to what the denoiser attends to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.pipeline.resources import TextEncoder
from atelier.prompt import Chunk, chunk, emphasis, weighted
from atelier.prompt.emphasis import Effect

Group = tuple[str, ...]
States = Mapping[Group, Mapping[str, Tensor]]
"""Group of texts -> text -> its states (T, C): the chunks of the text one after another."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """states: (chunks, positions, C) after the final norm; weights: (chunks, positions, 1)."""

    states: Tensor
    weights: Tensor


def encode(groups: Sequence[Group], encoder: TextEncoder, emphasis_name: str, clip_skip: int) -> States:
    """The states of all texts of `groups`: the text encoder is called once for every distinct one.

    Raises BadInput for a text with too many tokens, or a clip skip that the encoder does not have.
    """
    mode = emphasis(emphasis_name)
    chunks = {
        text: chunk(weighted(text, mode), encoder.tokenize, encoder.marks).chunks
        for text in dict.fromkeys(text for group in groups for text in group)
    }
    ragged = any(len({len(chunks[text]) for text in group}) > 1 for group in groups)
    if ragged or mode.effect == "from-empty":
        chunks.setdefault("", chunk(weighted(""), encoder.tokenize, encoder.marks).chunks)
    encoded = {text: _encoded(own, encoder, clip_skip) for text, own in chunks.items()}
    return {group: _weigh(group, encoded, mode.effect) for group in groups}


def _encoded(chunks: Sequence[Chunk], encoder: TextEncoder, clip_skip: int) -> _Encoded:
    states = encoder.states([c.tokens for c in chunks], clip_skip).float()
    return _Encoded(states, torch.tensor([c.weights for c in chunks]).to(states)[..., None])


def _weigh(group: Group, encoded: Mapping[str, _Encoded], effect: Effect) -> Mapping[str, Tensor]:
    """All texts of a group at the length of its longest, empty chunks behind the shorter ones, weights applied."""
    length = max(len(encoded[text].states) for text in group)
    states = torch.stack([_padded(encoded[text].states, encoded, length) for text in group])
    weights = torch.stack([_filled(encoded[text].weights, length) for text in group])
    if bool((weights != 1).any()):
        states = _emphasised(states, weights, effect, encoded)
    return dict(zip(group, states.flatten(1, 2), strict=True))


def _padded(states: Tensor, encoded: Mapping[str, _Encoded], length: int) -> Tensor:
    missing = length - len(states)
    return torch.cat([states, *[encoded[""].states] * missing]) if missing else states


def _filled(weights: Tensor, length: int) -> Tensor:
    return torch.cat([weights, weights.new_ones(length - len(weights), *weights.shape[1:])])


def _emphasised(states: Tensor, weights: Tensor, effect: Effect, encoded: Mapping[str, _Encoded]) -> Tensor:
    """states (texts, chunks, positions, C), weights the same with one channel; see `Emphasis` for the formulas."""
    match effect:
        case "nothing":
            return states
        case "scale":
            return states * weights
        case "scale-keep-mean":
            heavier = states * weights
            dims = (0, 2, 3)
            return heavier * (states.mean(dims, keepdim=True) / heavier.mean(dims, keepdim=True))
        case "from-empty":
            empty = encoded[""].states
            return empty + (states - empty) * weights
