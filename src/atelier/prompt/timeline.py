"""When which text of a prompt is active: boundaries in steps, one text up to each.

Quirks of A1111 that every implementation with the same images must keep (docs/compatibility/prompts.md): the entry
used is the first whose end is not below the number of model calls already made, so `[a:b:5]` takes a for 6 calls, and
`[a|b]` starts a, a, b, a.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import chain
from math import lcm

from atelier.prompt.tree import Cycle, Node, Switch, Text, Tree, When

_HUGE = 1e15


@dataclass(frozen=True, slots=True)
class Clock:
    """How moments are counted in one pass.

    calls: model calls expected in this pass: the steps, twice that for samplers with two calls a step.
    first_pass: in a second (hires) pass the calls of the first; its timeline is 0-1, that of the second 1-2.
    old: A1111 before 1.6: a number below 1 is a fraction, any other a step, and the second pass replays the first.
    """

    calls: int
    first_pass: int | None = None
    old: bool = False

    @property
    def length(self) -> int:
        """The last step of the timeline."""
        return self.first_pass if self.old and self.first_pass is not None else self.calls

    def step(self, when: When) -> int:
        """The last step before the moment; below 1 it has passed when the pass begins. At most `length`."""
        value = when.value
        if self.old:
            value = value * self.length if value < 1 else value
        elif when.is_fraction:
            value = (value - (self.first_pass is not None)) * max(self.length, 1)
        else:
            value -= self.first_pass or 0
        return min(self.length, int(min(max(value, -_HUGE), _HUGE)))


@dataclass(frozen=True, slots=True)
class Span:
    """`text` is active up to step `end`, counted from 1, it included."""

    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The texts of a prompt in the order in which they act; at least one. Ends ascend up to the clock's length."""

    spans: tuple[Span, ...]

    def active(self, call: int) -> str:
        """The text for model call `call`, counted from 0."""
        return next((span.text for span in self.spans if call <= span.end), self.spans[-1].text)

    @property
    def texts(self) -> tuple[str, ...]:
        """Every distinct text once, in order of appearance."""
        return tuple(dict.fromkeys(span.text for span in self.spans))


def timeline(tree: Tree, clock: Clock) -> Timeline:
    """The timeline of a tree. A boundary at which nothing changes stays a boundary, as in A1111."""
    switches, period = _collect(tree, clock)
    ends = {*switches, clock.length, *(range(1, clock.length + 1) if period else ())}
    known: dict[tuple[int, int], str] = {}
    spans: list[Span] = []
    for end in sorted(ends):
        state = bisect_left(switches, end), end % (period or 1)
        if state not in known:
            pieces: list[str] = []
            _write(tree, end, clock, pieces)
            known[state] = "".join(pieces)
        spans.append(Span(end, known[state]))
    return Timeline(tuple(spans))


def _collect(tree: Tree, clock: Clock) -> tuple[list[int], int]:
    """(steps at which something is switched, ascending; after how many steps all cycles begin again, 0 without any)."""
    steps: set[int] = set()
    cycles: set[int] = set()
    waiting: list[Node] = list(tree)
    while waiting:
        match waiting.pop():
            case Text():
                pass
            case Switch(before, after, when):
                steps.add(clock.step(when))
                waiting += (*(before or ()), *after)
            case Cycle(options):
                cycles.add(len(options))
                waiting += chain.from_iterable(options)
    return sorted(step for step in steps if step >= 1), lcm(*cycles) if cycles else 0


def _write(tree: Tree, step: int, clock: Clock, out: list[str]) -> None:
    for node in tree:
        if isinstance(node, Text):
            out.append(node.text)
        elif isinstance(node, Cycle):
            _write(node.options[(step - 1) % len(node.options)], step, clock, out)
        else:
            _write((node.before or ()) if step <= clock.step(node.when) else node.after, step, clock, out)
