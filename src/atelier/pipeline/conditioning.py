"""From texts to what the denoiser attends to, and which of it acts at which call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atelier.checkpoints.text import TextEncoder, TextTower
from atelier.models.unet import UNet
from atelier.nn.ports import Conditioning
from atelier.pipeline.stages import Encode, Sample
from atelier.prompt import Chunk, Timeline, chunk, emphasis, weighted
from atelier.prompt.emphasis import Effect, Emphasis

Group = tuple[str, ...]
States = Mapping[Group, Mapping[str, Conditioning]]
"""Group of texts -> text -> what the network is told by it: tokens (T, C), the chunks of the text one after another,
and pooled (P,) of its first chunk."""
ByText = Mapping[str, Sequence[Chunk]]

REMEMBERED = 16
"""How many combinations of texts are kept assembled."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What one tower says of a text: states (chunks, positions, C) before emphasis; pooled (chunks, P); weights
    (chunks, positions, 1)."""

    states: Tensor
    pooled: Tensor | None
    weights: Tensor


def encode(stage: Encode, encoder: TextEncoder) -> States:
    """The states of all texts of `stage`: each text encoder is called once for every distinct one.

    Raises BadInput for a text with too many tokens, or a clip skip that an encoder does not have.
    """
    mode = emphasis(stage.emphasis)
    chunked = [_chunked(stage.groups, tower, mode) for tower in encoder.towers]
    lengths = {group: max(len(chunks[text]) for chunks in chunked for text in group) for group in stage.groups}
    said = [
        _tower(tower, chunks, lengths, mode.effect, stage.clip_skip)
        for tower, chunks in zip(encoder.towers, chunked, strict=True)
    ]
    return {
        group: {text: _in_a_row(encoder.join([own[group][text] for own in said])) for text in group}
        for group in stage.groups
    }


def _chunked(groups: Sequence[Group], tower: TextTower, mode: Emphasis) -> dict[str, Sequence[Chunk]]:
    texts = dict.fromkeys(text for group in groups for text in group)
    return {text: chunk(weighted(text, mode), tower.tokenize, tower.marks).chunks for text in texts}


def _tower(
    tower: TextTower, chunks: ByText, lengths: Mapping[Group, int], effect: Effect, clip_skip: int
) -> dict[Group, dict[str, Conditioning]]:
    """What one tower says of each text, as many chunks as its group has, weights applied."""
    ragged = any(len(chunks[text]) < length for group, length in lengths.items() for text in group)
    if "" not in chunks and (ragged or effect == "from-empty"):
        chunks = {**chunks, "": chunk(weighted(""), tower.tokenize, tower.marks).chunks}
    encoded = {text: _encoded(own, tower, clip_skip) for text, own in chunks.items()}
    return {group: _weigh(group, encoded, effect, length) for group, length in lengths.items()}


def _encoded(chunks: Sequence[Chunk], tower: TextTower, clip_skip: int) -> _Encoded:
    said = tower.encode(chunks, clip_skip)
    states, pooled = said.tokens.float(), None if said.pooled is None else said.pooled.float()
    return _Encoded(states, pooled, torch.tensor([c.weights for c in chunks]).to(states)[..., None])


def _weigh(group: Group, encoded: Mapping[str, _Encoded], effect: Effect, length: int) -> dict[str, Conditioning]:
    """All texts of a group at one length, empty chunks behind the shorter ones, weights applied."""
    states = torch.stack([_padded(encoded[text].states, encoded, length) for text in group])
    weights = torch.stack([_filled(encoded[text].weights, length) for text in group])
    if bool((weights != 1).any()):
        states = _emphasised(states, weights, effect, encoded)
    return {text: Conditioning(own, encoded[text].pooled) for text, own in zip(group, states, strict=True)}


def _in_a_row(said: Conditioning) -> Conditioning:
    """From (chunks, positions, C) to (chunks * positions, C), and the pooled state of the first chunk."""
    return Conditioning(said.tokens.flatten(0, 1), None if said.pooled is None else said.pooled[0])


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


@dataclass(slots=True)
class Guide:
    """What the U-Net attends to at the present call, for one group of pictures. `call` counts from 0."""

    samples: Sequence[Sample]
    states: States
    unet: UNet
    call: int = -1
    _known: dict[tuple[str, ...], list[tuple[Tensor, Conditioning]]] = field(
        default_factory=dict[tuple[str, ...], "list[tuple[Tensor, Conditioning]]"]
    )

    def net(self, x: Tensor, t: Tensor, *, guided: bool) -> Tensor:
        """The U-Net on x (branches * pictures, C, h, w): the negative prompts first if `guided`, then part by part."""
        calls = self._calls(guided=guided)
        if len(calls) == 1:
            return self.unet(x.to(calls[0][1].tokens.dtype), t, calls[0][1])
        made = [self.unet(x[rows].to(cond.tokens.dtype), t[rows], cond) for rows, cond in calls]
        return torch.cat(made)[torch.cat([rows for rows, _ in calls]).argsort()]

    def _calls(self, *, guided: bool) -> list[tuple[Tensor, Conditioning]]:
        """One network call for each length of conditioning: which rows of x it takes, and what they attend to."""
        active = [(line, line.active(self.call)) for line in self._lines(guided=guided)]
        key = tuple(text for _, text in active)
        if key not in self._known:
            if len(self._known) == REMEMBERED:
                self._known.clear()
            self._known[key] = self._assembled([self.states[line.texts][text] for line, text in active])
        return self._known[key]

    def _lines(self, *, guided: bool) -> list[Timeline]:
        negative = [sample.prepared.negative for sample in self.samples] if guided else []
        parts = zip(*(sample.prepared.parts for sample in self.samples), strict=True)
        return negative + [line for part in parts for line in part]

    def _assembled(self, rows: Sequence[Conditioning]) -> list[tuple[Tensor, Conditioning]]:
        weight = next(self.unet.parameters())
        lengths = dict.fromkeys(len(row.tokens) for row in rows)
        picked = [[i for i, row in enumerate(rows) if len(row.tokens) == length] for length in lengths]
        return [
            (torch.tensor(indices, device=weight.device), _stacked([rows[i] for i in indices], weight))
            for indices in picked
        ]


def _stacked(rows: Sequence[Conditioning], weight: Tensor) -> Conditioning:
    """One batch of what was said of each row, on the device and in the precision of `weight`."""
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return Conditioning(
        torch.stack([row.tokens for row in rows]).to(weight),
        torch.stack(pooled).to(weight) if pooled else None,
    )
