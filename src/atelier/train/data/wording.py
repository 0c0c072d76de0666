"""From the caption of a training image to the words that a step sees. The order of what happens is kohya's."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from atelier.errors import BadInput
from atelier.train.data.draws import draws

CHOICE = re.compile(r"\{([^}]+)\}")
OPEN, CLOSE = "\0(", "\0)"
"""What {{ and }} stand as while choices are made: no text has a character of code 0."""
SHARES = ("dropout", "tag_dropout")


@dataclass(frozen=True, slots=True)
class Wording:
    """What happens to captions, in this order; nothing unless it is asked for. Raises BadInput for a share beyond 1.

    prefix, suffix: put before and after, with a space. dropout: share of captions that are emptied; every_epochs: in
    each n-th epoch all are. choices: of several lines one is drawn, and of {a|b} one of the two ({{ and }} are braces);
    if not, the first line counts. shuffle: tags (what `separator` divides) come in random order; but for the first
    `keep`, or those before the first and after the second `keep_separator`. warmup: at first there are `least` of the
    tags that move, and all of them after this many steps, or this share of all steps if below 1. tag_dropout: share of
    them that is left out. second_separator: divides what stays together as one tag; written as `separator` in the end.
    """

    prefix: str = ""
    suffix: str = ""
    dropout: float = 0.0
    every_epochs: int = 0
    choices: bool = False
    shuffle: bool = False
    keep: int = 0
    keep_separator: str = ""
    separator: str = ","
    second_separator: str = ""
    tag_dropout: float = 0.0
    warmup: float = 0.0
    least: int = 1

    def __post_init__(self) -> None:
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} = {getattr(self, name)}: give a share from 0 to 1")
        if not self.separator:
            raise BadInput("the separator of tags is empty: give a character, such as a comma")


@dataclass(frozen=True, slots=True)
class Turn:
    """When a caption is seen: at a place of a step's batch, in an epoch, of `steps` in all; all counted from 0."""

    seed: int
    step: int
    place: int
    epoch: int = 0
    steps: int = 0


def worded(caption: str, wording: Wording, turn: Turn) -> str:
    """The words of this turn: a function of the arguments. caption: one line, or several to choose from."""
    random = draws(turn.seed, "words", turn.step, turn.place)
    if _is_dropped(wording, turn, random):
        return ""
    lines = caption.split("\n")
    line = lines[random.integers(len(lines))] if wording.choices else lines[0]
    text = " ".join(part for part in (wording.prefix, line, wording.suffix) if part)
    if wording.choices:
        text = _chosen(text, random)
    if wording.shuffle or wording.warmup or wording.tag_dropout or _is_marked(text, wording):
        text = ", ".join(_tags(text, wording, turn, random))
    return text.replace(wording.second_separator, wording.separator) if wording.second_separator else text


def _is_dropped(wording: Wording, turn: Turn, random: np.random.Generator) -> bool:
    in_turn = wording.every_epochs > 0 and (turn.epoch + 1) % wording.every_epochs == 0
    return random.random() < wording.dropout or in_turn


def _chosen(text: str, random: np.random.Generator) -> str:
    def one(found: re.Match[str]) -> str:
        words = found[1].split("|")
        return words[random.integers(len(words))]

    drawn = CHOICE.sub(one, text.replace("{{", OPEN).replace("}}", CLOSE))
    return drawn.replace(OPEN, "{").replace(CLOSE, "}")


def _is_marked(text: str, wording: Wording) -> bool:
    return bool(wording.keep_separator) and wording.keep_separator in text


def _tags(text: str, wording: Wording, turn: Turn, random: np.random.Generator) -> list[str]:
    before, moving, after = _parted(text, wording)
    moving = moving[: _allowed(len(moving), wording, turn)]
    if wording.shuffle:
        moving = [moving[int(i)] for i in random.permutation(len(moving))]
    return [*before, *(tag for tag in moving if random.random() >= wording.tag_dropout), *after]


def _parted(text: str, wording: Wording) -> tuple[list[str], list[str], list[str]]:
    """The tags that stay in front, those that move, those that stay behind."""
    if not _is_marked(text, wording):
        tags = _split(text, wording.separator)
        return tags[: wording.keep], tags[wording.keep :], []
    before, moving, *after = text.split(wording.keep_separator, 2)
    return (
        _split(before, wording.separator),
        _split(moving, wording.separator),
        _split("".join(after), wording.separator),
    )


def _split(text: str, separator: str) -> list[str]:
    return [tag.strip() for tag in text.split(separator) if tag.strip()]


def _allowed(count: int, wording: Wording, turn: Turn) -> int:
    """How many tags there are at this step of the warm-up, of `count`."""
    until = wording.warmup if wording.warmup >= 1 else math.floor(wording.warmup * turn.steps)
    if turn.step >= until:
        return count
    return math.floor(turn.step * (count - wording.least) / until) + wording.least
