"""`atelier prompt explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from atelier.cli.prompt import app
from atelier.errors import BadInput
from atelier.prompt import Clock
from atelier.prompt.explain import Encoder, explain, report
from prompt_vectors import ATTENTION, CONJUNCTION, SCHEDULES


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["explain", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def data(*arguments: str) -> dict[str, Any]:
    return json.loads(run(*arguments, "--json"))


def test_json_has_attention_schedule_parts_and_networks() -> None:
    got = data("a (cat:1.3) [x:y:2] <lora:foo:0.8> AND dog :.5", "--steps", "4")
    assert got["attention"][:2] == [["a ", 1.0], ["cat", 1.3]]
    assert got["schedule"] == [[2, "a (cat:1.3) x  AND dog :.5"], [4, "a (cat:1.3) y  AND dog :.5"]]
    assert got["parts"] == [["a (cat:1.3) [x:y:2]", 1.0], [" dog", 0.5]]
    assert got["part_schedules"] == [[[2, "a (cat:1.3) x"], [4, "a (cat:1.3) y"]], [[4, " dog"]]]
    assert got["networks"] == [
        {"type": "lora", "name": "foo", "te": 0.8, "unet": 0.8, "dyn": None, "args": ["foo", "0.8"]}
    ]
    assert [c["count"] for c in got["chunks"]] == [3, 3, 1]
    assert got["chunks"][2]["chunks"][0]["tokens"][:3] == [49406, 1929, 49407]


@pytest.mark.parametrize(("text", "want"), [row[1:] for row in ATTENTION if row[2]], ids=lambda v: repr(v)[:30])
def test_attention_vectors_come_out(text: str, want: tuple[tuple[str, float], ...]) -> None:
    got = explain(text, Clock(10)).data()["attention"]
    assert got == [[said, pytest.approx(weight, abs=1e-9)] for said, weight in want]


@pytest.mark.parametrize(("text", "want"), [row[1:3] for row in SCHEDULES], ids=lambda v: repr(v)[:30])
def test_schedule_vectors_come_out(text: str, want: tuple[tuple[int, str], ...]) -> None:
    assert explain(text, Clock(10)).data()["schedule"] == [list(span) for span in want]


@pytest.mark.parametrize(("text", "want"), [row[1:] for row in CONJUNCTION], ids=lambda v: repr(v)[:30])
def test_and_vectors_come_out(text: str, want: tuple[tuple[str, float], ...]) -> None:
    assert explain(text, Clock(10)).data()["parts"] == [list(part) for part in want]


def test_choices_styles_and_wildcards(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "animal.txt").write_text("cat\n")
    styles = tmp_path / "styles.csv"
    styles.write_text("name,prompt\nart,oil {prompt}\n")
    got = data("a __x/animal__ {1|1}", "--wildcards", str(tmp_path), "--style", "art", "--styles-file", str(styles))
    assert got["text"] == "oil a cat 1"


def test_comments_are_gone() -> None:
    assert data("a # b\nc")["text"] == "a \nc"


def test_hires_timeline_and_old_timeline() -> None:
    assert data("[a:b:1.5]", "--steps", "10", "--hires-steps", "10")["schedule"] == [[5, "a"], [10, "b"]]
    assert data("[a:b:1.5]", "--steps", "10", "--old-timeline")["schedule"] == [[1, "a"], [10, "b"]]


def test_inversions_are_shown() -> None:
    (text,) = data("a easynegative", "--embedding", "EasyNegative=3")["chunks"]
    assert text["chunks"][0]["inversions"] == [[2, "EasyNegative", 0, 3]]
    assert text["count"] == 4


def test_words_for_people() -> None:
    out = run("a [cat:dog:0.5] (x:1.3) <lora:foo:0.8:0.5:4> <nope:1> BREAK b", "--steps", "10")
    assert "1.3      'x'" in out
    assert "calls 1-6       'a cat (x:1.3)   BREAK b'" in out
    assert "calls 7-10      'a dog (x:1.3)   BREAK b'" in out
    assert "lora foo: text encoder 0.8, U-Net 0.5, rank 4" in out
    assert "note: <nope:1>: there is no network type 'nope'" in out
    assert "(end of the chunk)" in out
    assert "tokens 76/150" in out


def test_an_explanation_without_a_tokenizer_says_nothing_of_tokens() -> None:
    assert "tokens" not in report(explain("a", Clock(2)), Clock(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x" * 16_001], "16,001 characters: the limit is 16,000"),
        (["x " * 2001], "2,001 tokens: the limit is 2,000"),
        (["x", "--emphasis", "loud"], "unknown emphasis mode 'loud'"),
        (["x", "--embedding", "y"], "write it as name=vectors"),
        (["x", "--embedding", "y=0"], "write it as name=vectors"),
        (["x", "--wildcards", "/nowhere"], "is no folder"),
        (["x", "--style", "y", "--styles-file", "/nowhere.csv"], "is no file"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        run(*arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_style_offers_the_nearest(tmp_path: Path) -> None:
    styles = tmp_path / "s.csv"
    styles.write_text("name,prompt\nvivid,oil\n")
    with pytest.raises(BadInput, match="did you mean vivid"):
        run("x", "--style", "vivd", "--styles-file", str(styles))


def test_a_wildcard_that_includes_itself_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("__a__\n")
    with pytest.raises(BadInput, match="includes itself"):
        run("__a__", "--wildcards", str(tmp_path))


def test_chunks_count_with_any_tokenizer() -> None:
    encoder = Encoder(lambda text: [len(word) for word in text.split()])
    (encoded,) = explain("one two three", Clock(1), encoder=encoder).encoded
    assert encoded.chunks.chunks[0].tokens[1:4] == (3, 3, 5)
