"""From texts to what the denoiser attends to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.checkpoints.text import TextEncoder, TextTower
from atelier.errors import BadInput
from atelier.nn.ports import Conditioning
from atelier.pipeline.persons import MARK, Person, places_of, tokenizing
from atelier.prompt import Chunk, chunk, emphasis, weighted
from atelier.prompt.emphasis import Effect, Emphasis
from atelier.request.spoken import short

TextGroup = tuple[str, ...]
"""Texts that are evaluated together, and get as many chunks as the longest of them."""
States = Mapping[TextGroup, Mapping[str, Conditioning]]
"""Group -> text -> what the network is told by it: tokens (T, C), the chunks of the text one after another, and, of its
first chunk, pooled (P,) and sizes (N,)."""
ByText = Mapping[str, Sequence[Chunk]]
MOST_CHUNKS = 2000
"""Of all texts of a group together: cycles of several lengths make thousands of texts, and the states of each chunk are
a quarter of a megabyte or more."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What one tower says of a text: states (chunks, positions, C) before emphasis; pooled (chunks, P); weights
    (chunks, positions, 1)."""

    states: Tensor
    pooled: Tensor | None
    weights: Tensor


def encode(
    groups: Sequence[TextGroup],
    encoder: TextEncoder,
    emphasis_name: str,
    clip_skip: int,
    person: Person | None = None,
) -> States:
    """The states of all texts of `groups`: each text encoder is called once for every distinct one. person: who is in
    those texts that have MARK.

    Raises BadInput for a text with too many tokens, a group with more chunks than `MOST_CHUNKS`, or a clip skip that an
    encoder does not have.
    """
    mode = emphasis(emphasis_name)
    chunked = [_chunked(groups, tower, mode, person) for tower in encoder.towers]
    lengths = {group: max(len(chunks[text]) for chunks in chunked for text in group) for group in groups}
    for group, length in lengths.items():
        _check(group, length)
    encoded = [
        _tower(tower, chunks, lengths, mode.effect, clip_skip)
        for tower, chunks in zip(encoder.towers, chunked, strict=True)
    ]
    states = {
        group: {text: _in_a_row(encoder.join([own[group][text] for own in encoded])) for text in group}
        for group in groups
    }
    if person is None:
        return states
    places = {
        text: places_of(weighted(text, mode), chunks[0], tower.tokenize, person)
        for tower, own in zip(encoder.towers, chunked, strict=True)
        for text, chunks in own.items()
        if MARK in text
    }
    return {
        group: {text: person.merged(own, places[text]) if text in places else own for text, own in texts.items()}
        for group, texts in states.items()
    }


def _check(group: TextGroup, length: int) -> None:
    if len(group) * length > MOST_CHUNKS:
        raise BadInput(
            f"the prompt {short(group[0])!r} becomes {len(group)} texts of {length} chunks of tokens, more than "
            f"{MOST_CHUNKS} together: use fewer or shorter [a|b], or fewer steps"
        )


def _chunked(
    groups: Sequence[TextGroup], tower: TextTower, mode: Emphasis, person: Person | None
) -> dict[str, Sequence[Chunk]]:
    texts, tokenize = dict.fromkeys(text for group in groups for text in group), tokenizing(tower.tokenize, person)
    return {text: chunk(weighted(text, mode), tokenize, tower.marks, tower.inversions).chunks for text in texts}


def _tower(
    tower: TextTower, chunks: ByText, lengths: Mapping[TextGroup, int], effect: Effect, clip_skip: int
) -> dict[TextGroup, dict[str, Conditioning]]:
    """What one tower says of each text, as many chunks as its group has, weights applied."""
    ragged = any(len(chunks[text]) < length for group, length in lengths.items() for text in group)
    if "" not in chunks and (ragged or effect == "from-empty"):
        chunks = {**chunks, "": chunk(weighted(""), tower.tokenize, tower.marks).chunks}
    encoded = {text: _encoded(own, tower, clip_skip) for text, own in chunks.items()}
    return {group: _weigh(group, encoded, effect, length) for group, length in lengths.items()}


def _encoded(chunks: Sequence[Chunk], tower: TextTower, clip_skip: int) -> _Encoded:
    encoded = tower.encode(chunks, clip_skip)
    states, pooled = encoded.tokens.float(), None if encoded.pooled is None else encoded.pooled.float()
    return _Encoded(states, pooled, torch.tensor([c.weights for c in chunks]).to(states)[..., None])


def _weigh(group: TextGroup, encoded: Mapping[str, _Encoded], effect: Effect, length: int) -> dict[str, Conditioning]:
    """All texts of a group at one length, empty chunks behind the shorter ones, weights applied."""
    states = torch.stack([_padded(encoded[text].states, encoded, length) for text in group])
    weights = torch.stack([_filled(encoded[text].weights, length) for text in group])
    if bool((weights != 1).any()):
        states = _emphasised(states, weights, effect, encoded)
    return {text: Conditioning(own, encoded[text].pooled) for text, own in zip(group, states, strict=True)}


def _in_a_row(encoded: Conditioning) -> Conditioning:
    """From (chunks, positions, C) to (chunks * positions, C); of the first chunk the pooled state and the sizes."""
    return Conditioning(encoded.tokens.flatten(0, 1), _first(encoded.pooled), _first(encoded.sizes))


def _first(rows: Tensor | None) -> Tensor | None:
    return None if rows is None else rows[0]


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
