"""Saved styles: reading, applying, taking out again."""

from __future__ import annotations

import pytest

from atelier.errors import BadInput
from atelier.prompt.styles import Style, apply_styles, extract_style, extract_styles, read_styles, write_styles

CSV = '\ufeffname,prompt,negative_prompt\n#---,,\nart,"oil, {prompt}",blurry\n,x,\nbest,masterpiece,\n'


def test_reading() -> None:
    assert read_styles(CSV) == (Style("art", "oil, {prompt}", "blurry"), Style("best", "masterpiece"))
    assert read_styles("name,text\na,b\n") == (Style("a", "b"),)
    assert read_styles('name,prompt,negative_prompt\na,"two\nlines",\n') == (Style("a", "two\nlines"),)
    assert read_styles("name,prompt\na,1\nb,2\na,3\n") == (Style("a", "3"), Style("b", "2"))


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nname;prompt\na;b",
        '"name";"prompt"\r\n"a";"b"\r\n',
        "\nname,prompt\na,b",
        "Name, Prompt \na,b",
        "name,prompt\ra,b\r",
    ],
)
def test_headers_as_spreadsheets_and_people_write_them(text: str) -> None:
    assert read_styles(text) == (Style("a", "b"),)


def test_only_line_ends_end_a_row() -> None:
    assert read_styles("name,prompt\na,b\u2028c\x0bd\n") == (Style("a", "b\u2028c\x0bd"),)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_columns_may_be_divided_as_spreadsheets_do(mark: str) -> None:
    rows = [("name", "prompt", "negative_prompt"), ("art", '"oil, {prompt}; dark"', "blurry"), ("best", "x", "")]
    text = "\r\n".join(mark.join(row) for row in rows)
    assert read_styles(text) == (Style("art", "oil, {prompt}; dark", "blurry"), Style("best", "x"))


def test_a_cell_without_end_is_one_line() -> None:
    with pytest.raises(BadInput, match="styles file, line") as caught:
        read_styles("name,prompt\na," + "x" * 200_000)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="styles file, line"):
        read_styles("name," + "x" * 200_000)


def test_writing_and_reading() -> None:
    styles = (Style("a", 'x, "y"\nz', "n"), Style("b", "", "ü"))
    assert read_styles(write_styles(styles)) == styles


def test_a_file_without_names_is_bad_input() -> None:
    with pytest.raises(BadInput, match="its first line must name the columns"):
        read_styles("a,b\n1,2\n")
    with pytest.raises(BadInput, match="first line"):
        read_styles("")


@pytest.mark.parametrize(
    ("prompt", "texts", "want"),
    [
        ("1girl", ["masterpiece"], "1girl, masterpiece"),
        ("1girl", ["masterpiece, {prompt}"], "masterpiece, 1girl"),
        ("a", ["{prompt} x {prompt}"], "a x a"),
        (" a ", [" b ", "<{prompt}>"], "<a, b>"),
        ("", ["b"], "b"),
        ("a", [""], "a"),
    ],
)
def test_applying(prompt: str, texts: list[str], want: str) -> None:
    assert apply_styles(prompt, texts) == want


def test_a_prompt_that_grows_without_end_is_bad_input() -> None:
    with pytest.raises(BadInput, match="with its styles"):
        apply_styles("a", ["{prompt}{prompt}"] * 64)


def test_extracting() -> None:
    assert extract_style("masterpiece", "1girl, masterpiece") == "1girl"
    assert extract_style("masterpiece, {prompt}", "masterpiece, 1girl") == "1girl"
    assert extract_style("masterpiece, {prompt}", "x, 1girl") is None
    assert extract_style("aXb{prompt}Xb", "aXb") is None
    assert extract_style("masterpiece", "1girl, masterpiece ") == "1girl"
    assert extract_style("oil, {prompt}", " oil, 1girl\n") == "1girl"


def test_extracting_needs_both_texts() -> None:
    styles = (Style("art", "oil, {prompt}", "blurry"), Style("best", "masterpiece"), Style("none"))
    assert extract_styles(styles, "oil, a cat, masterpiece", "blurry") == (("best", "art"), "a cat", "")
    assert extract_styles(styles, "oil, a cat", "sharp") == ((), "oil, a cat", "sharp")
