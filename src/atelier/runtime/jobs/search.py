"""What is typed to find images, as conditions on their facts: words of the prompt, and field:value for any field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from atelier.errors import BadInput, about
from atelier.runtime.jobs.facts import PROMPT, name_of, number_of, spelled

LONGEST, MOST = 1000, 20
"""Characters of a search, and its words and fields."""
_TERM = re.compile(
    r"""(?P<no>-?)(?:(?P<name>[A-Za-z][\w]*):(?P<value>"[^"]*"?|[^\s"]\S*)|(?P<word>"[^"]*"?|\S+))""", re.ASCII
)
_BETWEEN = re.compile(r"(?P<low>-?[\d.]*\d)\.\.(?P<high>-?\d[\d.]*)")
_COMPARED = re.compile(r"(?P<how><=|>=|<|>)(?P<number>.+)")
_BELOW = {"<", "<="}
How = Literal["holds", "is", "between"]


@dataclass(frozen=True, slots=True)
class Term:
    """A condition on the fact `name`. holds: its value has `value` in it; is: that, or it is the number `low`; between:
    it is a number from low to high, whose ends belong to it unless `open`. negated: images that do not fulfil it."""

    name: str
    how: How
    value: str = ""
    low: float = 0.0
    high: float = 0.0
    open: bool = False
    negated: bool = False


def parsed(text: str) -> tuple[Term, ...]:
    """The conditions of a search, all of which must hold. What looks like a field and is none is words of a prompt,
    where colons are common. Raises BadInput for more than is searched at once."""
    with about("q"):
        if len(text) > LONGEST:
            raise BadInput(f"q: {len(text)} characters are too long a search: use at most {LONGEST}")
        terms = tuple(_terms(text))
        if len(terms) > MOST:
            raise BadInput(f"q: {len(terms)} words are too many to search for: use at most {MOST}")
    return terms


def _terms(text: str) -> Iterator[Term]:
    for found in _TERM.finditer(text):
        negated = bool(found["no"])
        name = name_of(found["name"]) if found["name"] else ""
        if name:
            yield _field(name, found["value"], negated=negated)
            continue
        word = found["word"] or f"{found['name']}:{found['value']}"
        if spelled(word.strip('"')):
            yield Term(PROMPT, "holds", spelled(word.strip('"')), negated=negated)


def _field(name: str, said: str, *, negated: bool) -> Term:
    """What is quoted is text; bare numbers, and bounds of numbers, are compared as numbers."""
    value = spelled(said.strip('"'))
    between, compared = _BETWEEN.fullmatch(said), _COMPARED.fullmatch(said)
    if between is not None:
        low, high = number_of(between["low"]), number_of(between["high"])
        if low is not None and high is not None:
            return Term(name, "between", low=low, high=high, negated=negated)
    if compared is not None and (bound := number_of(compared["number"])) is not None:
        below = compared["how"] in _BELOW
        low, high = (float("-inf"), bound) if below else (bound, float("inf"))
        return Term(name, "between", low=low, high=high, open="=" not in compared["how"], negated=negated)
    number = None if said.startswith('"') else number_of(said)
    if number is not None:
        return Term(name, "is", value, low=number, negated=negated)
    return Term(name, "holds", value, negated=negated)
