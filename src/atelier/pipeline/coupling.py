"""Attention coupling: the network is asked once for the whole canvas, and only its attention to the text is divided.

What a position attends to in the text is that of each region, mixed by the masks; everything else of the network sees
the canvas as it is (the "Attention" mode of the web UI's Regional Prompter, ComfyUI's attention couple). The states of
all prompts stand one behind the other as one conditioning, so that any network with an attention port reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import lcm

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.diffusion.types import Moment
from atelier.nn.attention import attend, merge_heads
from atelier.nn.ports import AttentionLayer, AttentionPatch, Conditioning, Ports
from atelier.pipeline.conditioning import States
from atelier.pipeline.prepared import PreparedPrompt
from atelier.pipeline.prompted import BETWEEN, NO_WORDS, NoPorts, PortAdapter, Rows
from atelier.pipeline.sample import Sample
from atelier.prompt import Span, Timeline


@dataclass(frozen=True, slots=True)
class Reads:
    """What a network reads: the prompts of `samples`, by `states`, through what `adapter` makes of its attention."""

    samples: Sequence[Sample]
    states: States
    adapter: PortAdapter = field(default_factory=NoPorts)


@dataclass(frozen=True, slots=True)
class Divided:
    """Divides attention to the text, on all of the canvas or on views of it.

    shares: (N, 1, h, w) of each text, which sum to 1 at every position of the canvas; paths: of the layers that read
    the text.
    """

    shares: Tensor
    paths: Sequence[str]

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:  # noqa: ARG002 - a PortAdapter
        shown = torch.cat([view.of(self.shares) for view in moment.views], 1) if moment.views else self.shares
        return Ports(attention=dict.fromkeys(self.paths, divided(shown, rows.view)))


def coupled(reads: Reads, shares: Sequence[Tensor], paths: Sequence[str]) -> Reads:
    """The prompts of the image and of its regions as one.

    shares: (1, 1, h, w) of each, the image's first, which sum to 1 at every position; paths: of the layers that read
    the text.
    """
    known: dict[tuple[str, ...], Mapping[str, Conditioning]] = dict(reads.states)
    if NO_WORDS in known:  # what Perp-Neg reads, everywhere
        known[NO_WORDS] = {text: _one_behind_the_other([own] * len(shares)) for text, own in known[NO_WORDS].items()}

    def joined(*lines: Timeline) -> Timeline:
        line, groups = together(lines), [line.texts for line in lines]
        known[line.texts] = {
            text: _one_behind_the_other([reads.states[g][t] for g, t in zip(groups, text.split(BETWEEN), strict=True)])
            for text in line.texts
        }
        return line

    def of(sample: Sample) -> Sample:
        own, regions = sample.prompt, sample.regions
        parts = tuple(joined(part, *(region.parts[0] for region in regions)) for part in own.parts)
        negative = joined(own.negative, *(region.negative for region in regions))
        prompt: PreparedPrompt = replace(own, parts=parts, negative=negative)
        return replace(sample, prompt=prompt)

    samples = [of(sample) for sample in reads.samples]
    return Reads(samples, known, Divided(torch.cat(list(shares)), paths))


def together(lines: Sequence[Timeline]) -> Timeline:
    """One timeline whose texts are those of all, with BETWEEN between them."""
    ends = sorted({span.end for line in lines for span in line.spans})
    return Timeline(tuple(Span(end, BETWEEN.join(line.active(end) for line in lines)) for end in ends))


def divided(shares: Tensor, view: Tensor) -> AttentionPatch:
    """Attends to each of N equally long parts of the text alone, and mixes by shares (N, V, h, w): a row of the batch
    by those of its view (B,)."""

    def patch(
        layer: AttentionLayer, x: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, /
    ) -> Tensor:
        if not layer.is_cross:
            return attended
        here = F.adaptive_avg_pool2d(shares.to(x), layer.grid).flatten(2)[:, view, :, None]
        parts = zip(key.chunk(len(shares), dim=2), value.chunk(len(shares), dim=2), here, strict=True)
        made = [merge_heads(attend(query, k, v)) * share for k, v, share in parts if bool((share > 0).any())]
        return torch.stack(made).sum(0)

    return patch


def _one_behind_the_other(states: Sequence[Conditioning]) -> Conditioning:
    """All tokens, equally many of each text; the rest is that of the first.

    A text that is shorter stands there as often as it fits: to attend to the same keys several times is to attend to
    them once.
    """
    length = lcm(*(len(own.tokens) for own in states))
    tokens = [own.tokens.repeat(length // len(own.tokens), 1) for own in states]
    return replace(states[0], tokens=torch.cat(tokens))
