"""What stands behind `steps=`: lists of values as CSV, and ranges, as A1111's X/Y/Z plot reads them.

    1-5          1, 2, 3, 4, 5
    1-10 (+2)    1, 3, 5, 7, 9
    10-5 (-3)    10, 7
    1-10 [5]     five numbers from 1 to 10; whole ones are cut off: 1, 3, 5, 7, 10

Numbers with a point are floats, and their steps are exact: 0-1 (+0.1) ends with 1.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from fractions import Fraction

from atelier.errors import BadInput

Number = int | float
MAX_VALUES = 1000
"""Of one axis."""

_NUMBER = r"([+-]?\s*(?:\d{1,20}(?:\.\d{0,30})?|\.\d{1,30}))"
_RANGE = re.compile(rf"{_NUMBER}\s*-\s*{_NUMBER}\s*(?:\(\s*{_NUMBER}\s*\)|\[\s*(\d{{1,9}})\s*\])?")


def texts(text: str) -> tuple[str, ...]:
    """The values of a CSV line, without the space around them; quotes keep commas. Raises BadInput."""
    try:
        rows = csv.reader([text], skipinitialspace=True, strict=True)
        found = tuple(value.strip() for row in rows for value in row)
    except csv.Error as error:
        raise BadInput(f'{text!r} is no list of values ({error}): write a,b or "with, comma",b') from error
    _check_count(len(found), text)
    return found


def numbers(text: str, *, whole: bool) -> tuple[str | Number, ...]:
    """The values of a CSV line in which ranges become their numbers; what is no range stays text, to be read as any
    other value of a field. whole: floats make no sense here.

    Raises BadInput for a range that never ends, has floats where whole numbers are needed, or too many numbers.
    """
    found: list[str | Number] = []
    for value in texts(text):
        match = _RANGE.fullmatch(value)
        found += [value] if match is None else _numbers(match, whole=whole)
        _check_count(len(found), text)
    return tuple(value for value in found if value != "")


def _numbers(match: re.Match[str], *, whole: bool) -> list[Number]:
    first, last = _number(match[1]), _number(match[2])
    step = None if match[3] is None else _number(match[3])
    given = [first, last] if step is None else [first, last, step]
    if whole and any(number.denominator != 1 for number in given):
        raise BadInput(f"the range {match[0]} needs whole numbers")
    if match[4] is not None:
        spread = _spread(first, last, int(match[4]), match[0])
        return [int(number) if whole else float(number) for number in spread]
    return [int(number) if whole else float(number) for number in _steps(first, last, step, match[0])]


def _number(text: str) -> Fraction:
    return Fraction("".join(text.split()))


def _spread(first: Fraction, last: Fraction, count: int, text: str) -> Iterator[Fraction]:
    """`count` numbers at equal distances, both ends included."""
    if not 1 <= count <= MAX_VALUES:
        raise BadInput(f"the range {text}: write 1 to {MAX_VALUES} in the brackets, the number of values")
    gap = (last - first) / max(1, count - 1)
    return (first + i * gap for i in range(count))


def _steps(first: Fraction, last: Fraction, step: Fraction | None, text: str) -> Iterator[Fraction]:
    """From `first` on, not beyond `last`."""
    step = (Fraction(1) if last >= first else Fraction(-1)) if step is None else step
    if step == 0 or (last - first) / step < 0:
        sign = "-" if last < first else "+"
        raise BadInput(f"the range {text} never comes to its end: write its step as ({sign}{abs(float(step)) or 1:g})")
    count = int((last - first) / step) + 1
    if count > MAX_VALUES:
        raise BadInput(f"the range {text} has {count} values, at most {MAX_VALUES} are compared; take larger steps")
    return (first + i * step for i in range(count))


def _check_count(count: int, text: str) -> None:
    if count > MAX_VALUES:
        shown = text if len(text) <= 40 else f"{text[:37]}…"
        raise BadInput(f"{shown} has {count} values, at most {MAX_VALUES} are compared")
