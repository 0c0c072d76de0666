"""ComfyUI's weights, and the modes of emphasis."""

from __future__ import annotations

import pytest

from atelier.errors import UnknownName
from atelier.prompt import EMPHASES, Weighted, emphasis, weighted


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a (b) c", [("a ", 1), ("b", 1.1), (" c", 1)]),
        ("((b))", [("b", 1.1 * 1.1)]),
        ("(b:1.3)", [("b", 1.3)]),
        ("(a (b:1.2) c:1.3)", [("a ", 1.3), ("b", 1.2), (" c", 1.3)]),
        ("((a:0.5))", [("a", 0.5)]),
        ("[a] {b}", [("[a] {b}", 1)]),
        (r"\(a\) (b\):2)", [("(a) ", 1), ("b)", 2)]),
        ("(a:x)", [("a:x", 1.1)]),
        ("(a:1e1)", [("a", 10)]),
        ("a) (b:1.2)", [("a) (b:1.2)", 1)]),
        ("(a (b:1.2)", [("a ", 1.2), ("(b", 1.2)]),
        ("(a", [("(a", 1)]),
        ("()", [("", 1)]),
        ("", [("", 1)]),
        ("a BREAK b", [("a BREAK b", 1)]),
    ],
)
def test_comfy(text: str, want: list[tuple[str, float]]) -> None:
    got = weighted(text, emphasis("comfy"))
    assert [(i.text, pytest.approx(i.weight)) for i in got] == want


def test_weights_that_are_not_finite_are_clamped() -> None:
    warnings: list[str] = []
    got = weighted("(a:inf) (b:nan) (c:-1e999)", emphasis("Comfy"), warnings.append)
    assert [i.weight for i in got if i.text in "abc"] == [1e6, 1, -1e6]
    assert len(warnings) == 3


def test_modes() -> None:
    text = "(a:1.3) BREAK"
    assert weighted(text, emphasis("none")) == (Weighted(text),)
    assert weighted(text, emphasis("Ignore")) == weighted(text)
    assert {mode.name: mode.effect for mode in EMPHASES.values()} == {
        "Original": "scale-keep-mean",
        "No norm": "scale",
        "Ignore": "nothing",
        "None": "nothing",
        "Comfy": "from-empty",
    }


def test_an_unknown_mode_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Original"):
        emphasis("orignal")
