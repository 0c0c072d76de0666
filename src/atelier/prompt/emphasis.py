"""How weights are read and what they do to the text states, as data. Whoever holds the tensors applies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from atelier.errors import UnknownName
from atelier.prompt.attention import Weighted, parse_attention
from atelier.prompt.comfy import parse_comfy
from atelier.prompt.text import Warn, silent

Syntax = Literal["brackets", "comfy", "none"]
Effect = Literal["scale-keep-mean", "scale", "nothing", "from-empty"]


@dataclass(frozen=True, slots=True)
class Emphasis:
    """One mode. z are the text states after the final norm, w the weight of each position (1 for start, end, padding).

    effect: "scale-keep-mean": z * w, then all of it times mean(z) / mean(z * w), one scalar over everything encoded in
    one call; "scale": z * w; "nothing": z; "from-empty": e + (z - e) * w, e the states of the empty prompt.
    """

    name: str
    syntax: Syntax
    effect: Effect
    aliases: tuple[str, ...] = ()


ORIGINAL = Emphasis("Original", "brackets", "scale-keep-mean")
EMPHASES: Mapping[str, Emphasis] = {
    e.name: e
    for e in (
        ORIGINAL,
        Emphasis("No norm", "brackets", "scale", ("no-norm", "no_norm")),
        Emphasis("Ignore", "brackets", "nothing"),
        Emphasis("None", "none", "nothing"),
        Emphasis("Comfy", "comfy", "from-empty", ("ComfyUI", "comfy")),
    )
}


def emphasis(name: str) -> Emphasis:
    """The mode of that name, ignoring case. Raises UnknownName with the nearest names."""
    folded = name.strip().casefold()
    for mode in EMPHASES.values():
        if folded in (n.casefold() for n in (mode.name, *mode.aliases)):
            return mode
    raise UnknownName("emphasis mode", name, EMPHASES)


def weighted(text: str, mode: Emphasis = ORIGINAL, warn: Warn = silent) -> tuple[Weighted, ...]:
    """The text as weighted pieces in the syntax of the mode. In mode None brackets, and BREAK, are text."""
    match mode.syntax:
        case "brackets":
            return parse_attention(text, warn)
        case "comfy":
            return parse_comfy(text, warn)
        case "none":
            return (Weighted(text),)
