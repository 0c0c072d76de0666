"""Whatever is typed: nothing raises, and what was parsed prints as text that parses to the same."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from atelier.errors import BadInput
from atelier.prompt import (
    Clock,
    Text,
    Weighted,
    chunk,
    emphasis,
    expand,
    parse,
    parse_attention,
    parse_negative,
    parse_tree,
    print_attention,
    print_tree,
    timeline,
    weighted,
    without_comments,
)
from atelier.prompt.networks import cut_networks, paste_networks
from atelier.prompt.wildcards import parse_choices

PIECES = (
    *"ab()[]{}<>:|\\ .,12#_$&\n\t",
    " BREAK ",
    "BREAK",
    " AND ",
    "AND",
    ":1.3)",
    ": .5",
    ":-2.)",
    ":1.5.3)",
    "[a:b:3]",
    "[a:0.5]",
    "[a|b]",
    ":2]",
    "<lora:x:1>",
    "<lora:x:te=1:a>",
    "{a|b}",
    "{2$$",
    "__a__",
    "\\(",
    "\\]",
    "\u00a0",
    "é",
    "٣",
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=40)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
@example("<lo<lora:x:1>ra:y:1>")
@example("a:1 :1 AND")
@example("[[a|b]:[c:d:2]: 1e1 ]")
def test_a_phrase_prints_what_was_parsed(text: str) -> None:
    phrase = parse(text)
    assert str(phrase) == text
    assert parse(str(phrase)) == phrase
    assert str(parse_negative(text)) == text


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_a_tree_prints_what_was_parsed(text: str) -> None:
    tree = parse_tree(text)
    assert print_tree(tree) == text
    assert parse_tree(print_tree(tree)) == tree


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_networks_go_back_to_their_places(text: str) -> None:
    assert paste_networks(*cut_networks(text)) == text


@settings(max_examples=300, deadline=None)
@given(TEXTS)
@example("(BREAK:-1)(a:1)")
@example("(\\:2)\\")
@example("BREAKBREAK BR\\EAK")
def test_weights_print_as_text_that_parses_to_them(text: str) -> None:
    items = parse_attention(text)
    assert parse_attention(print_attention(items)) == items


WEIGHTS = st.floats(-1e6, 1e6) | st.sampled_from([1.0, 1.1, 1 / 1.1, -1.0, 0.0])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TEXTS, WEIGHTS), min_size=1, max_size=5))
def test_any_weighted_texts_can_be_written(pairs: list[tuple[str, float]]) -> None:
    merged: list[Weighted] = []
    for text, weight in pairs:
        if merged and merged[-1].weight == weight:
            merged[-1] = Weighted(merged[-1].text + text, weight)
        else:
            merged.append(Weighted(text, weight))
    assert parse_attention(print_attention(merged)) == tuple(merged)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 30), st.none() | st.integers(1, 30), st.booleans())
def test_a_timeline_covers_every_step(text: str, calls: int, first: int | None, old: bool) -> None:
    clock = Clock(calls, first, old)
    line = timeline(parse_tree(text), clock)
    ends = [span.end for span in line.spans]
    assert ends == sorted(set(ends))
    assert ends[0] >= 1
    assert ends[-1] == clock.length
    assert {line.active(call) for call in range(calls)} <= set(line.texts)
    if all(isinstance(node, Text) for node in parse_tree(text)):
        assert line.texts == (text,)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(0, 2**64))
def test_the_rest_never_raises(text: str, seed: int) -> None:
    without_comments(text)
    parse_choices(text)
    for mode in ("Comfy", "None"):
        assert weighted(text, emphasis(mode))
    try:
        expand(text, seed, {"a": (text, "b")})
    except BadInput as error:
        assert "includes itself" in str(error)  # noqa: PT017 - the text may name the wildcard that holds it


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from([1, 2, 267]), max_size=60), WEIGHTS), max_size=8), st.integers(0, 74)
)
def test_chunks_follow_the_rules(pieces: list[tuple[list[int], float]], backtrack: int) -> None:
    """Against the rules of docs/compatibility/prompts.md, said once more."""
    items = [Weighted(" ".join(map(str, tokens)), weight) for tokens, weight in pieces]
    found = chunk(items, lambda text: [int(t) for t in text.split()], backtrack=backtrack)
    got = [list(zip(c.tokens[1 : c.used + 1], c.weights[1 : c.used + 1], strict=True)) for c in found.chunks]
    assert got == _by_the_rules([(token, weight) for tokens, weight in pieces for token in tokens], backtrack)
    assert all(len(c.tokens) == len(c.weights) == 77 for c in found.chunks)


def _by_the_rules(tokens: list[tuple[int, float]], backtrack: int) -> list[list[tuple[int, float]]]:
    chunks: list[list[tuple[int, float]]] = [[]]
    counted: list[int] = []  # places of the commas of this chunk that count
    for token in tokens:
        full = len(chunks[-1]) == 75
        if full and token[0] != 267 and counted and 75 - counted[-1] <= backtrack:
            behind = counted[-1] + 1
            chunks.append(chunks[-1][behind:])
            del chunks[-2][behind:]
            counted = []
        elif full:
            chunks.append([])
            counted = []
        elif token[0] == 267:
            counted.append(len(chunks[-1]))
        if len(chunks[-1]) == 75:
            chunks.append([])
        chunks[-1].append(token)
    return chunks
