"""A prompt, parsed: networks to load, and parts that act together, each with its own tree."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.prompt.conjunction import AND, split_and, split_weight, tail_weight
from atelier.prompt.networks import Network, cut_networks, paste_networks
from atelier.prompt.text import Warn, silent
from atelier.prompt.timeline import Clock, Timeline, timeline
from atelier.prompt.tree import Tree, print_tree
from atelier.prompt.tree_parser import parse_tree


@dataclass(frozen=True, slots=True)
class Part:
    """One side of AND. `tail` is the end of it that is not text: space, and the weight as it was written."""

    tree: Tree
    tail: str = ""
    weight: float = 1.0

    @property
    def text(self) -> str:
        """What the part says, switches and cycles included."""
        return print_tree(self.tree)

    def timeline(self, clock: Clock) -> Timeline:
        """Which text acts when."""
        return timeline(self.tree, clock)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A parsed prompt: at least one part, and the networks in the order in which they stand."""

    parts: tuple[Part, ...]
    networks: tuple[Network, ...] = ()

    def __str__(self) -> str:
        """The text that was parsed, character by character."""
        text = AND.join(part.text + part.tail for part in self.parts)
        return paste_networks(text, self.networks)


def parse(text: str, warn: Warn = silent) -> Phrase:
    """A prompt as a phrase. Comments, styles and wildcards are dealt with before. Never raises, linear time.

    A prompt without AND has a weight too if it ends in `: number` (`aspect ratio 16:9` is "aspect ratio 16" nine times
    over), as in A1111.
    """
    bare, networks = cut_networks(text)
    return Phrase(tuple(_part(part, warn) for part in split_and(bare)), networks)


def parse_negative(text: str, warn: Warn = silent) -> Phrase:
    """A negative prompt as a phrase of one part: in it AND, a weight at the end and `<lora:…>` are plain text."""
    return Phrase((Part(parse_tree(text, warn)),))


def _part(text: str, warn: Warn) -> Part:
    inner, tail = split_weight(text)
    return Part(parse_tree(inner, warn), tail, tail_weight(tail, warn))
