"""From texts to what the denoiser attends to, and which of it acts at which call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atelier.models.unet import UNet
from atelier.nn.ports import Conditioning
from atelier.pipeline.resources import TextEncoder
from atelier.pipeline.stages import Encode, Sample
from atelier.prompt import Chunk, Timeline, chunk, emphasis, weighted
from atelier.prompt.emphasis import Effect

Group = tuple[str, ...]
States = Mapping[Group, Mapping[str, Tensor]]
"""Group of texts -> text -> its states (T, C): the chunks of the text one after another."""

REMEMBERED = 16
"""How many combinations of texts are kept assembled."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """states: (chunks, positions, C) after the final norm; weights: (chunks, positions, 1)."""

    states: Tensor
    weights: Tensor


def encode(stage: Encode, encoder: TextEncoder) -> States:
    """The states of all texts of `stage`: the text encoder is called once for every distinct one.

    Raises BadInput for a text with too many tokens, or a clip skip that the encoder does not have.
    """
    mode = emphasis(stage.emphasis)
    chunks = {
        text: chunk(weighted(text, mode), encoder.tokenize, encoder.marks).chunks
        for text in dict.fromkeys(text for group in stage.groups for text in group)
    }
    ragged = any(len({len(chunks[text]) for text in group}) > 1 for group in stage.groups)
    if ragged or mode.effect == "from-empty":
        chunks.setdefault("", chunk(weighted(""), encoder.tokenize, encoder.marks).chunks)
    encoded = {text: _encoded(own, encoder, stage.clip_skip) for text, own in chunks.items()}
    return {group: _weigh(group, encoded, mode.effect) for group in stage.groups}


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


@dataclass(slots=True)
class PromptedNet:
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
        negative = [sample.prompt.negative for sample in self.samples] if guided else []
        parts = zip(*(sample.prompt.parts for sample in self.samples), strict=True)
        return negative + [line for part in parts for line in part]

    def _assembled(self, rows: Sequence[Tensor]) -> list[tuple[Tensor, Conditioning]]:
        weight = next(self.unet.parameters())
        lengths = dict.fromkeys(len(row) for row in rows)
        picked = [[i for i, row in enumerate(rows) if len(row) == length] for length in lengths]
        return [
            (
                torch.tensor(indices, device=weight.device),
                Conditioning(torch.stack([rows[i] for i in indices]).to(weight)),
            )
            for indices in picked
        ]
