"""A network with the prompts of several samples: which of them acts when, and in how many calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from atelier.diffusion.types import Moment, View
from atelier.families.telling import Tell, Telling, as_said
from atelier.nn.net import Net
from atelier.nn.ports import NOTHING, Conditioning, Ports, both
from atelier.nn.seamless import Seamless
from atelier.pipeline.conditioning import States
from atelier.pipeline.sample import Sample
from atelier.prompt import Span, Timeline

REMEMBERED = 16
"""How many combinations of texts are kept assembled: a cycle [a|b] comes back to a few."""


NOWHERE = Telling(0, 0)
"""No image of which a network could be told anything."""
BETWEEN = "\0"
"""Between texts that act together: no prompt holds it."""
NO_WORDS = ("",)
"""The group of texts that `PromptedNet.empty` reads."""


class Rows(NamedTuple):
    """What the rows of a call are. negative: (B,), whether each is a negative prompt's; view: (B,), which of the views
    of the moment it shows, 0 where there are none; net: the network that takes them, with what is merged in it."""

    negative: Tensor
    view: Tensor
    net: Net


class PortAdapter(Protocol):
    """What enters a network beside the prompts: ControlNet, IP-Adapter, FreeU, PAG."""

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:
        """For one call of the network: x (B, C, h, w) and t (B,) as it is given them."""
        ...


@dataclass(frozen=True, slots=True)
class NoPorts:
    """No adapter."""

    def ports(self, *_: object) -> Ports:
        return NOTHING


@dataclass(frozen=True, slots=True)
class WithoutEdges:
    """Lets opposite edges of the latent meet."""

    seamless: Seamless

    def ports(self, *_: object) -> Ports:
        return Ports(seamless=self.seamless)


@dataclass(frozen=True, slots=True)
class _Also:
    """An adapter, and behind it the same ports in every call."""

    first: PortAdapter
    own: Ports

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:
        return both(self.first.ports(x, t, moment, cond, rows), self.own)


@dataclass(frozen=True, slots=True)
class Several:
    """Adapters one after the other."""

    adapters: Sequence[PortAdapter]

    def ports(self, x: Tensor, t: Tensor, moment: Moment, cond: Conditioning, rows: Rows, /) -> Ports:
        return reduce(both, (own.ports(x, t, moment, cond, rows) for own in self.adapters), NOTHING)


class _Line(NamedTuple):
    """A timeline, and whether it is a negative prompt's."""

    timeline: Timeline
    negative: bool


_Acting = tuple[tuple[str, ...], str, bool]
"""The texts of a timeline, the one that acts, and whether it is a negative prompt's."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the network: which rows of x it takes, which of them are negative prompts', and what they attend
    to."""

    rows: Tensor
    negative: Tensor
    cond: Conditioning


@dataclass(frozen=True, slots=True)
class PromptedNet:
    """`net` for the branches of guidance: the negative prompts first, then the prompts part by part.

    It may be shown each sample several times at once, in other places of the canvas: all samples, then all again.
    channels: (1, K, h, w) or (samples, K, h, w), what the network sees beside the latent, of all of the canvas; tell:
    what it is told beside the text, of an image that is `shown`; strength: of guidance, for a network that reads it:
    the CFG scale less 1; later: what takes the network's place once a share of the calls is made, ascending.
    """

    net: Net
    samples: Sequence[Sample]
    states: States
    adapter: PortAdapter = field(default_factory=NoPorts)
    channels: Tensor | None = None
    tell: Tell = as_said
    shown: Telling = NOWHERE
    strength: float | None = None
    later: tuple[tuple[float, Net], ...] = ()
    _known: dict[tuple[_Acting, ...], list[_Call]] = field(default_factory=dict[tuple[_Acting, ...], "list[_Call]"])

    def both(self, x: Tensor, t: Tensor, moment: Moment) -> Tensor:
        """x ((1 + parts) * n * samples, C, h, w), the negative prompts' rows first."""
        return self._evaluated([self._negatives(), *self._parts()], x, t, moment)

    def edited(self, x: Tensor, t: Tensor, moment: Moment) -> Tensor:
        """x ((2 + parts) * n * samples, C, h, w): the negative prompts without the image beside the latent, then
        `both`."""
        return self._evaluated([self._negatives(), self._negatives(), *self._parts()], x, t, moment, blank=1)

    def conditional(self, x: Tensor, t: Tensor, moment: Moment) -> Tensor:
        """x (parts * n * samples, C, h, w), without the negative prompts."""
        return self._evaluated(self._parts(), x, t, moment)

    def negative(self, x: Tensor, t: Tensor, moment: Moment) -> Tensor:
        """x (n * samples, C, h, w), with the negative prompts alone."""
        return self._evaluated([self._negatives()], x, t, moment)

    def negative_rows(self, count: int, moment: Moment) -> Tensor:
        """Which of `count` rows of x the calls of `negative` take, one call after the other."""
        lines = self._negatives() * (count // len(self.samples))
        return torch.cat([call.rows for call in self._calls(lines, moment.call)])

    def empty(self, x: Tensor, t: Tensor, moment: Moment) -> Tensor:
        """x (n * samples, C, h, w), with no words at all: the group NO_WORDS must be among the states."""
        return self._evaluated([[_Line(Timeline((Span(0, ""),)), negative=True)] * len(self.samples)], x, t, moment)

    def pooled(self, moment: Moment) -> list[Tensor]:
        """The pooled states (samples, P) of the prompts that act, part by part."""
        prompts = zip(*(sample.prompt.parts for sample in self.samples), strict=True)
        parts = [[self.states[line.texts][line.active(moment.call)].pooled for line in part] for part in prompts]
        there = [[row for row in rows if row is not None] for rows in parts]
        assert all(there), "the text encoders of this family have no pooled states"
        return [torch.stack(rows) for rows in there]

    def with_ports(self, ports: Ports) -> PromptedNet:
        """The same with these ports in every call, behind those of its adapter."""
        return replace(self, adapter=_Also(self.adapter, ports))

    def _negatives(self) -> list[_Line]:
        return [_Line(sample.prompt.negative, negative=True) for sample in self.samples]

    def _parts(self) -> list[list[_Line]]:
        parts = zip(*(sample.prompt.parts for sample in self.samples), strict=True)
        return [[_Line(line, negative=False) for line in part] for part in parts]

    def _evaluated(
        self, branches: Sequence[list[_Line]], x: Tensor, t: Tensor, moment: Moment, *, blank: int = 0
    ) -> Tensor:
        """blank: of so many branches, the first, the channels beside the latent are 0."""
        times = len(x) // (len(branches) * len(self.samples))
        calls = self._calls([line for branch in branches for line in branch * times], moment.call)
        beside = self._beside(len(x), blank * times * len(self.samples), moment.views)
        if len(calls) == 1:
            return self._called(calls[0], beside, x, t, moment)
        made = [
            self._called(c, None if beside is None else beside[c.rows], x[c.rows], t[c.rows], moment) for c in calls
        ]
        return torch.cat(made)[torch.cat([call.rows for call in calls]).argsort()]

    def _beside(self, rows: int, blank: int, views: Sequence[View]) -> Tensor | None:
        """The channels of each row, those of the first `blank` rows 0."""
        if self.channels is None:
            return None
        own = self.channels.to(self.net.device, self.net.dtype).expand(len(self.samples), -1, -1, -1)
        shown = torch.cat([view.of(own) for view in views]) if views else own
        beside = shown.repeat(rows // len(shown), 1, 1, 1)
        beside[:blank] = 0
        return beside

    def _called(self, call: _Call, beside: Tensor | None, x: Tensor, t: Tensor, moment: Moment) -> Tensor:
        x, cond = x.to(self.net.dtype), replace(call.cond, channels=beside)
        if self.strength is not None:
            cond = replace(cond, guidance=torch.full((len(x),), self.strength, device=self.net.device))
        net = next((own for share, own in reversed(self.later) if moment.progress >= share), self.net)
        rows = Rows(call.negative, call.rows // len(self.samples) % max(1, len(moment.views)), net)
        return net(x, t, cond, self.adapter.ports(x, t, moment, cond, rows))

    def _calls(self, lines: Sequence[_Line], call: int) -> list[_Call]:
        """One call of the network for each length of conditioning."""
        key = tuple((line.timeline.texts, line.timeline.active(call), line.negative) for line in lines)
        if key not in self._known:
            if len(self._known) == REMEMBERED:
                self._known.clear()
            self._known[key] = self._assembled([self._told(own) for own in key], [negative for *_, negative in key])
        return self._known[key]

    def _told(self, acting: _Acting) -> Conditioning:
        """What the network is told by a text."""
        texts, text, negative = acting
        empty = not any(own.strip(BETWEEN) for own in texts)
        return self.tell(self.states[texts][text], replace(self.shown, negative=negative, empty=empty))

    def _assembled(self, rows: Sequence[Conditioning], negative: Sequence[bool]) -> list[_Call]:
        lengths = dict.fromkeys(len(row.tokens) for row in rows)
        picked = [[i for i, row in enumerate(rows) if len(row.tokens) == length] for length in lengths]
        return [
            _Call(
                torch.tensor(indices, device=self.net.device),
                torch.tensor([negative[i] for i in indices], device=self.net.device),
                _stacked([rows[i] for i in indices], self.net),
            )
            for indices in picked
        ]


def _stacked(rows: Sequence[Conditioning], net: Net) -> Conditioning:
    """One batch of what the network is told of each row, where it computes and in its precision."""
    tokens = torch.stack([row.tokens for row in rows]).to(net.device, net.dtype)
    pooled, sizes = _together([row.pooled for row in rows]), _together([row.sizes for row in rows])
    level = _together([row.level for row in rows])
    return Conditioning(
        tokens,
        None if pooled is None else pooled.to(tokens),
        None if sizes is None else sizes.to(net.device),
        level=None if level is None else level.to(net.device),
    )


def _together(rows: Sequence[Tensor | None]) -> Tensor | None:
    """One batch of vectors; None where the family has none. Sizes stay float32: 1500 does not survive in bfloat16."""
    there = [row for row in rows if row is not None]
    return torch.stack(there) if there else None
