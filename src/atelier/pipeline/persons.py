"""A person in a prompt: the word behind which PhotoMaker's trigger stands becomes somebody who is seen in images.

Until the person is there, a prompt is read without the trigger; from then on in its place stands MARK, by which the
text is told from one in which somebody wrote the word and means nothing by it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atelier.adapters.photomaker import TRIGGER, expanded
from atelier.errors import BadInput
from atelier.models.photomaker import PhotoMaker
from atelier.nn.ports import Conditioning
from atelier.pipeline.prepared import PreparedPrompt
from atelier.prompt import Chunk, Span, Timeline, Tokenize, Weighted

MARK = "\ufdd0"
"""No character at all (Unicode, section 23.7): no prompt has it."""
_WORD = re.compile(rf"(?<!\s)\s*+\b{TRIGGER}\b")
_HERE = -1
"""What stands for MARK among ids of tokens."""
NEEDED = f'the prompt needs the word {TRIGGER} behind the word for the person ("a man {TRIGGER}")'


@dataclass(frozen=True, slots=True)
class Person:
    """tokens: (K, W), what `net` makes of images of somebody; weight: how far the word is that person, 1 for all."""

    net: PhotoMaker
    tokens: Tensor
    weight: float

    def merged(self, cond: Conditioning, places: Sequence[int]) -> Conditioning:
        """What a text says, (T, W), with the person in these places."""
        weight = next(self.net.parameters())
        states = cond.tokens.to(weight)[None]
        with torch.no_grad():
            made = self.net.merged(states, self.tokens.to(weight), torch.tensor(places, device=weight.device))
        made = made if self.weight == 1 else torch.lerp(states, made, self.weight)
        return replace(cond, tokens=made[0].to(cond.tokens))


def met(prompt: PreparedPrompt, start: float, calls: int) -> PreparedPrompt:
    """The prompt with the person in it, where it has the trigger, from a share of the calls that are made on; where
    that is 0, from the first one on."""
    end = int(start * calls) if start else -1
    return replace(prompt, parts=tuple(_met(part, end) for part in prompt.parts))


def unmet(prompt: PreparedPrompt) -> PreparedPrompt:
    """The prompt without the trigger, for a pass in which nobody is in it."""
    parts = (tuple(replace(span, text=_WORD.sub("", span.text)) for span in part.spans) for part in prompt.parts)
    return replace(prompt, parts=tuple(map(Timeline, parts)))


def has_trigger(prompt: str) -> bool:
    return _WORD.search(prompt) is not None


def _met(timeline: Timeline, end: int) -> Timeline:
    """Calls are counted from 0. A span goes on up to its end, the last one for good."""
    found: list[Span] = []
    *_, last = timeline.spans
    for span in timeline.spans:
        began = found[-1].end if found else -1
        goes_on = span.end > end or span is last
        if began < end and goes_on:
            found.append(Span(end, _WORD.sub("", span.text)))
        found.append(replace(span, text=_WORD.sub(MARK if goes_on else "", span.text)))
    return Timeline(tuple(found))


def tokenizing(tokenize: Tokenize, person: Person | None) -> Tokenize:
    """Repeats the word before MARK as often as the person has tokens; leaves MARK out where there is no person."""

    def tokens(text: str) -> list[int]:
        if MARK not in text:
            return tokenize(text)
        parts = [tokenize(part) for part in text.split(MARK)]
        if person is None:
            return [token for part in parts for token in part]
        first, *rest = parts
        ids = [*first, *(token for part in rest for token in (_HERE, *part))]
        return expanded(ids, _HERE, len(person.tokens))[0]

    return tokens


def places_of(items: Sequence[Weighted], first: Chunk, tokenize: Tokenize, person: Person) -> range:
    """Where in a text's first chunk, its mark counted, the person is. Raises BadInput for further behind."""
    count, at = len(person.tokens), 1
    for item in items:
        if MARK in item.text:
            at += len(tokenize(item.text.partition(MARK)[0])) - 1
            break
        at += len(tokenize(item.text))
    places = range(at, at + count)
    there = {first.tokens[place] if place < len(first.tokens) - 1 else None for place in places}
    if len(there) > 1 or None in there:
        raise BadInput(f"{TRIGGER}: the word for the person must be among the first words of the prompt")
    return places
