"""Chunks of 75 tokens: filling, commas, BREAK, inversions, padding, counts, limits."""

from __future__ import annotations

import pytest

from atelier.errors import BadInput
from atelier.prompt import CLIP_G, CLIP_L, Marks, Patch, Weighted, chunk, inversions, padded, parse_attention
from atelier.prompt.inversion import Inversions

WORDS = {",": 267}


def tokenize(text: str) -> list[int]:
    """A word is its number; a comma is 267."""
    return [WORDS.get(word) or int(word) for word in text.replace(",", " , ").split()]


def numbers(first: int, last: int) -> str:
    return " ".join(str(n) for n in range(first, last + 1))


def inside(text: str, backtrack: int = 20) -> list[list[int]]:
    """The tokens of every chunk, without marks."""
    found = chunk(parse_attention(text), tokenize, backtrack=backtrack)
    return [list(c.tokens[1 : 1 + c.used]) for c in found.chunks]


def test_a_short_prompt() -> None:
    found = chunk([Weighted("1 2"), Weighted("3", 1.3)], tokenize)
    (only,) = found.chunks
    assert only.tokens == (49406, 1, 2, 3, *[49407] * 73)
    assert only.weights == (1, 1, 1, 1.3, *[1] * 73)
    assert (only.used, found.count, found.room) == (3, 3, 75)


def test_an_encoder_without_a_start_mark() -> None:
    """As T5 reads: one place more for words, and an inversion lies at its own first place."""
    marks = Marks(start=None, end=1, pad=0, comma=-1, length=5)
    found = chunk([Weighted("7 8"), Weighted("9", 1.3)], tokenize, marks, inversions({"8": 1}, tokenize))
    (only,) = found.chunks
    assert only.tokens == (7, 0, 9, 1, 0, 0)
    assert only.weights == (1, 1, 1.3, 1, 1, 1)
    assert only.patches == (Patch(1, "8", 0, 1),)


def test_the_empty_prompt_is_one_chunk() -> None:
    found = chunk(parse_attention(""), tokenize)
    assert [c.tokens for c in found.chunks] == [(49406, *[49407] * 76)]
    assert found.count == 0


def test_75_fit_76_do_not() -> None:
    assert inside(numbers(1, 75)) == [list(range(1, 76))]
    assert inside(numbers(1, 76)) == [list(range(1, 76)), [76]]


def test_what_follows_the_last_comma_moves_on() -> None:
    text = f"{numbers(1, 60)}, {numbers(61, 80)}"
    assert inside(text) == [[*range(1, 61), 267], list(range(61, 81))]


def test_a_comma_too_far_back_moves_nothing() -> None:
    """75 places less the comma's is how far back: 20 is allowed, 21 is not."""
    at_55 = f"{numbers(1, 55)}, {numbers(56, 80)}"
    assert [len(c) for c in inside(at_55)] == [56, 25]
    at_54 = f"{numbers(1, 54)}, {numbers(55, 80)}"
    assert [len(c) for c in inside(at_54)] == [75, 6]
    assert [len(c) for c in inside(at_54, backtrack=21)] == [55, 26]
    assert [len(c) for c in inside(at_55, backtrack=0)] == [75, 6]


def test_a_comma_that_overflows_starts_the_next_chunk() -> None:
    assert inside(f"{numbers(1, 75)}, 76") == [list(range(1, 76)), [267, 76]]


def test_a_comma_of_the_chunk_before_is_forgotten() -> None:
    """The second chunk begins with a comma, which the original does not count as its last one."""
    assert [len(c) for c in inside(f"{numbers(1, 75)}, {numbers(100, 180)}", backtrack=74)] == [75, 75, 7]


def test_moved_tokens_keep_their_weights() -> None:
    found = chunk([Weighted(f"{numbers(1, 70)},"), Weighted(numbers(71, 80), 1.5)], tokenize)
    assert [c.used for c in found.chunks] == [71, 10]
    assert found.chunks[1].weights[1:12] == (*[1.5] * 10, 1)
    assert found.count == 85


@pytest.mark.parametrize(
    ("text", "used", "count"),
    [
        ("1 BREAK 2", [1, 1], 76),
        ("1 BREAK BREAK 2", [1, 0, 1], 151),
        ("BREAK 1", [0, 1], 76),
        ("1 BREAK", [1], 75),
        ("BREAK", [0], 75),
    ],
)
def test_break_ends_a_chunk(text: str, used: list[int], count: int) -> None:
    found = chunk(parse_attention(text), tokenize)
    assert [c.used for c in found.chunks] == used
    assert found.count == count


def test_a_pad_other_than_the_end_mark_fills_what_is_behind_the_first_end_mark() -> None:
    found = chunk([Weighted("1 49407 2")], tokenize, CLIP_G)
    assert found.chunks[0].tokens == (49406, 1, 49407, *[0] * 74)


def lookup(**vectors: int) -> Inversions:
    names = {f"{name[1:].replace('_', ' ')}": count for name, count in vectors.items()}
    return inversions(names, tokenize)


def test_an_inversion_takes_its_places() -> None:
    found = chunk([Weighted("1"), Weighted("7 8 2", 1.2)], tokenize, inversions=lookup(n7_8=3))
    (only,) = found.chunks
    assert only.tokens[:7] == (49406, 1, 0, 0, 0, 2, 49407)
    assert only.weights[:7] == (1, 1, 1.2, 1.2, 1.2, 1.2, 1)
    assert only.patches == (Patch(2, "7 8", 0, 3),)


def test_the_longest_name_wins() -> None:
    (only,) = chunk([Weighted("7 8 9")], tokenize, inversions=lookup(n7=1, n7_8=2)).chunks
    assert [p.name for p in only.patches] == ["7 8"]


def test_an_inversion_that_does_not_fit_starts_the_next_chunk() -> None:
    found = chunk([Weighted(f"{numbers(100, 173)}, 7")], tokenize, inversions=lookup(n7=3))
    assert [c.used for c in found.chunks] == [75, 3]
    found = chunk([Weighted(f"{numbers(100, 172)} 7 7")], tokenize, inversions=lookup(n7=2))
    assert [c.used for c in found.chunks] == [75, 2]
    assert [c.patches for c in found.chunks] == [(Patch(74, "7", 0, 2),), (Patch(1, "7", 0, 2),)]


def test_an_inversion_moves_with_what_follows_the_comma() -> None:
    text = f"{numbers(100, 160)}, 7 {numbers(200, 220)}"
    found = chunk([Weighted(text)], tokenize, inversions=lookup(n7=2))
    assert [c.used for c in found.chunks] == [62, 23]
    assert found.chunks[1].patches == (Patch(1, "7", 0, 2),)


def test_an_inversion_longer_than_a_chunk_goes_on_in_the_next() -> None:
    found = chunk([Weighted("1 7 2")], tokenize, inversions=lookup(n7=100))
    assert [c.used for c in found.chunks] == [1, 75, 26]
    assert [c.patches for c in found.chunks] == [(), (Patch(1, "7", 0, 75),), (Patch(1, "7", 75, 25),)]


def test_padding_to_equal_length() -> None:
    found = chunk([Weighted("1")], tokenize)
    more = padded(found.chunks, 3)
    assert [c.used for c in more] == [1, 0, 0]
    assert more[1].tokens == (49406, *[49407] * 76)
    assert padded(more, 2) == more


def test_2000_tokens_are_the_limit() -> None:
    assert chunk([Weighted("1 " * 2000)], tokenize).count == 2000
    with pytest.raises(BadInput, match=r"2,001 tokens: the limit is 2,000, shorten .* with '7 1 1"):
        chunk([Weighted("7 " + "1 " * 2000)], tokenize)
    with pytest.raises(BadInput, match="more than 2,000 tokens"):
        chunk(parse_attention("BREAK " * 2600), tokenize)


def test_marks_of_another_encoder() -> None:
    from dataclasses import replace

    small = replace(CLIP_L, start=1, end=2, pad=2, comma=5, length=4)
    found = chunk([Weighted("10 11 12 5 13 14")], tokenize, small)
    assert [c.tokens for c in found.chunks] == [(1, 10, 11, 12, 5, 2), (1, 13, 14, 2, 2, 2)]
