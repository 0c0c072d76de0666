"""What A1111 makes of prompts (docs/compatibility/prompts.md).

The only vector that is not kept is A17, where the original raises an error.
"""

from __future__ import annotations

import pytest

from atelier.prompt import Clock, parse, parse_attention, parse_tree, timeline, without_comments
from atelier.prompt.networks import Strength, cut_networks
from prompt_vectors import ATTENTION, CONJUNCTION, HIRES, SCHEDULES

Pairs = tuple[tuple[str, float], ...]
Spans = tuple[tuple[int, str], ...]


def attention(text: str) -> list[tuple[str, float]]:
    return [(item.text, pytest.approx(item.weight, abs=1e-9)) for item in parse_attention(text)]


def spans(text: str, clock: Clock) -> Spans:
    return tuple((span.end, span.text) for span in timeline(parse_tree(text), clock).spans)


def active(text: str, calls: int, clock: Clock) -> str:
    line = timeline(parse_tree(text), clock)
    return "".join(line.active(call) for call in range(calls))


@pytest.mark.parametrize(("text", "want"), [row[1:] for row in ATTENTION if row[2]], ids=lambda v: repr(v)[:30])
def test_attention(text: str, want: Pairs) -> None:
    assert list(want) == attention(text)


def test_a_weight_that_is_no_number_is_text() -> None:
    assert attention("(a:1.5.3)") == [("a:1.5.3", 1.1)]
    assert attention("(a:.)") == [("a:.", 1.1)]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a BREAK  BREAK b", [("a", 1), ("BREAK", -1), ("", 1), ("BREAK", -1), ("b", 1)]),
        ("a, BREAK, b", [("a,", 1), ("BREAK", -1), (", b", 1)]),
        ("(BREAK)", [("", 1.1), ("BREAK", -1.1), ("", 1.1)]),
        ("[BREAK]", [("", 1 / 1.1), ("BREAK", -1 / 1.1), ("", 1 / 1.1)]),
        ("x BREAK:1.2", [("x", 1), ("BREAK", -1), (":1.2", 1)]),
        ("aBREAK BREAKb break", [("aBREAK BREAKb break", 1)]),
    ],
)
def test_break(text: str, want: list[tuple[str, float]]) -> None:
    assert attention(text) == want


def test_a_break_with_a_weight_is_none() -> None:
    assert [item.is_break for item in parse_attention("a BREAK b")] == [False, True, False]
    assert not any(item.is_break for item in parse_attention("((BREAK)) (a BREAK b:1.3)"))


@pytest.mark.parametrize(("text", "new", "old"), [row[1:] for row in SCHEDULES], ids=lambda v: repr(v)[:30])
def test_schedule(text: str, new: Spans, old: Spans | None) -> None:
    assert spans(text, Clock(10)) == new
    assert spans(text, Clock(10, old=True)) == (old or new)


@pytest.mark.parametrize(
    ("text", "after_10", "after_20", "old"), [row[1:] for row in HIRES], ids=lambda v: repr(v)[:30]
)
def test_hires_schedule(text: str, after_10: Spans, after_20: Spans, old: Spans) -> None:
    assert spans(text, Clock(10, first_pass=10)) == after_10
    assert spans(text, Clock(10, first_pass=20)) == after_20
    assert spans(text, Clock(10, first_pass=10, old=True)) == old


def test_the_old_mode_replays_the_first_pass() -> None:
    assert spans("[a:b:.5]", Clock(7, first_pass=10, old=True)) == ((5, "a"), (10, "b"))


@pytest.mark.parametrize(
    ("text", "want"),
    [("[a:b:3]", "aaaabbbbbb"), ("[a|b]", "aababababa"), ("[a|b|c]", "aabcabcabc"), ("[a:b:0.5]", "aaaaaabbbb")],
)
def test_which_text_a_model_call_uses(text: str, want: str) -> None:
    assert active(text, 10, Clock(10)) == want


def test_two_calls_a_step_double_the_timeline() -> None:
    assert active("[a:b:0.5]", 19, Clock(20)) == "a" * 11 + "b" * 8


@pytest.mark.parametrize(("text", "want"), [row[1:] for row in CONJUNCTION], ids=lambda v: repr(v)[:30])
def test_and(text: str, want: Pairs) -> None:
    assert tuple((part.text, part.weight) for part in parse(text).parts) == want


def test_a_number_at_the_end_is_a_weight_without_and_too() -> None:
    (part,) = parse("aspect ratio 16:9").parts
    assert (part.text, part.weight) == ("aspect ratio 16", 9)


def test_and_comes_before_schedules() -> None:
    first, second = parse("[a AND b:c:5]").parts
    assert (first.text, second.text) == ("[a", " b:c:5]")
    assert spans(first.text, Clock(10)) == ((10, "[a"),)


@pytest.mark.parametrize(
    ("text", "left", "found"),
    [
        ("a <lora:foo:0.8> b", "a  b", [("lora", "foo", Strength(0.8, 0.8))]),
        ("<lora:foo>", "", [("lora", "foo", Strength(1, 1))]),
        ("<lora:foo:0.5:0.7>", "", [("lora", "foo", Strength(0.5, 0.7))]),
        ("<lora:foo:0.5:0.7:8>", "", [("lora", "foo", Strength(0.5, 0.7, 8))]),
        ("<lora:foo:te=0.5:unet=0.7:dyn=8>", "", [("lora", "foo", Strength(0.5, 0.7, 8))]),
        ("<lora:foo:te=0.5>", "", [("lora", "foo", Strength(0.5, 0.5))]),
        ("<lora:foo:2:unet=-1>", "", [("lora", "foo", Strength(2, -1))]),
        ("<lyco:bar:1>", "", [("lora", "bar", Strength(1, 1))]),
        ("<hypernet:h:0.3>", "", [("hypernet", "h", Strength(0.3, 0.3))]),
        ("a < b > c", "a < b > c", []),
        ("<lora:a:1><lora:b:2>", "", [("lora", "a", Strength(1, 1)), ("lora", "b", Strength(2, 2))]),
        ("<x y:1>", "<x y:1>", []),
        ("<lora:>", "<lora:>", []),
        ("<lora::1>", "", [("lora", "", Strength(1, 1))]),
        ("<この行は動画用, steam>", "<この行は動画用, steam>", []),
    ],
)
def test_networks(text: str, left: str, found: list[tuple[str, str, Strength]]) -> None:
    bare, networks = cut_networks(text)
    assert bare == left
    assert [(n.type, n.name, n.strength()) for n in networks] == found


@pytest.mark.parametrize("text", ["<lora:a:>", "<lora:a:nan>", "<lora:a:1,0,0,1>", "<lora:a:1:1:x>", "<lora:a:inf>"])
def test_a_strength_that_is_no_number_warns(text: str) -> None:
    warnings: list[str] = []
    _, (network,) = cut_networks(text)
    strength = network.strength(warnings.append)
    assert len(warnings) == 1 or text.endswith("inf>")
    assert warnings
    assert strength.rank is None
    assert abs(strength.te) <= 1e6


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a # x\nb", "a \nb"),
        ("a #x", "a \n"),
        ("a #<lora:x:1>\nb", "a \nb"),
        ("#first\nb", "\nb"),
        ("a\n#line\nb", "a\nb"),
        ("#a\n#b\nc", "\n\nc"),
        ("no comment", "no comment"),
    ],
)
def test_comments(text: str, want: str) -> None:
    assert without_comments(text) == want


def test_weights_beyond_bounds_are_clamped_with_a_warning() -> None:
    warnings: list[str] = []
    (item,) = parse_attention(f"(a:{'9' * 400})", warnings.append)
    assert item.weight == 1e6
    assert len(warnings) == 1
    (deep,) = parse_attention("(" * 8000 + "a", warnings.append)
    assert deep.weight == 1e6
    (part,) = parse(f"a:-{'9' * 400}", warnings.append).parts
    assert part.weight == -1e6
    assert len(warnings) == 3


def test_nesting_without_end_is_text() -> None:
    warnings: list[str] = []
    text = "[a|" * 200 + "]" * 200
    assert spans(text, Clock(3)) == ((3, text),)
    parse(text, warnings.append)
    assert len(warnings) == 1
    assert spans("[a|" * 100 + "]" * 100, Clock(2)) == ((1, "a"), (2, ""))
