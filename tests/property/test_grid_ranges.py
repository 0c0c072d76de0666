"""Ranges of values: their ends, their number, their distances."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from atelier.request.grid.axes import csv_line
from atelier.request.grid.values import numbers, texts

ends = st.integers(-400, 400)


@given(ends, ends, st.integers(1, 30))
def test_steps_stay_within_and_reach_the_end_where_they_can(first: int, last: int, step: int) -> None:
    sign = 1 if last >= first else -1
    values = [int(value) for value in numbers(f"{first}-{last} ({sign * step:+d})", whole=True)]
    assert values[0] == first
    assert all(b - a == sign * step for a, b in pairwise(values))
    assert 0 <= (last - values[-1]) * sign < step


@given(ends, ends, st.integers(2, 60))
def test_a_number_of_values_has_both_ends(first: int, last: int, count: int) -> None:
    values = [float(value) for value in numbers(f"{first}-{last} [{count}]", whole=False)]
    assert (values[0], values[-1], len(values)) == (first, last, count)
    gap = Fraction(last - first, count - 1)
    assert values == [float(first + i * gap) for i in range(count)]


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1), min_size=2))
def test_values_written_as_csv_are_read_again(values: list[str]) -> None:
    assert texts(csv_line(values)) == tuple(values)
