"""Styles and wildcards on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.errors import BadFile
from atelier.prompt import expand
from atelier.runtime.words import Words, packaged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "colour.txt").write_text("red\n", encoding="utf-8")
    (tmp_path / "old.txt").write_bytes("d\xe9j\xe0 vu\n".encode("cp1252"))
    return tmp_path


def test_a_file_that_cannot_be_read_matters_where_it_is_used(folder: Path):
    files = Words(wildcard_folder=folder).wildcards()
    assert sorted(files) == ["colour", "old"]
    assert expand("a __colour__ ball and __nothing__", 1, files) == "a red ball and __nothing__"
    for used in ("__old__", "__*__", "{2$$__old__}"):
        with pytest.raises(BadFile, match=r"old\.txt: is no text in UTF-8 \(byte 1\): save it as UTF-8"):
            expand(f"a {used}", 1, files)


def test_a_file_that_another_one_names_is_used(folder: Path):
    (folder / "both.txt").write_text("__old__\n", encoding="utf-8")
    with pytest.raises(BadFile, match=r"old\.txt"):
        expand("a __both__", 1, Words(wildcard_folder=folder).wildcards())


def test_a_file_is_read_once(folder: Path):
    files = Words(wildcard_folder=folder).wildcards()
    assert files["colour"] == ("red",)
    (folder / "colour.txt").write_text("blue\n", encoding="utf-8")
    assert files["colour"] == ("red",)


def test_clutter_is_no_wildcard_and_endings_may_be_in_capitals(folder: Path):
    (folder / "._colour.txt").write_bytes(b"\xff")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.txt").touch()
    (folder / "dir.txt").mkdir()
    (folder / "LOUD.TXT").write_text("boom\n", encoding="utf-8-sig")
    (folder / "notes.md").touch()
    files = Words(wildcard_folder=folder).wildcards()
    assert sorted(files) == ["LOUD", "colour", "old"]
    assert files["LOUD"] == ("boom",)


@pytest.mark.parametrize("name", ["Colour", "COLOUR", "colour.txt", "Colour.TXT"])
def test_a_wildcard_in_another_case_or_with_its_ending(folder: Path, name: str):
    assert expand(f"__{name}__", 1, Words(wildcard_folder=folder).wildcards()) == "red"


def test_the_case_tells_two_files_apart(folder: Path):
    (folder / "Colour.txt").write_text("blue\n", encoding="utf-8")
    files = Words(wildcard_folder=folder).wildcards()
    assert [files[name] for name in ("colour", "Colour", "COLOUR")] == [("red",), ("blue",), ("blue",)]


def test_a_file_without_lines_says_so(folder: Path):
    (folder / "none.txt").write_text("# nothing yet\n", encoding="utf-8")
    notes: list[str] = []
    assert expand("__none__", 1, Words(wildcard_folder=folder).wildcards(), notes.append) == "__none__"
    assert notes == ["the wildcard 'none' has no lines: __none__ is plain text"]


def test_only_line_ends_end_a_line(folder: Path):
    (folder / "odd.txt").write_bytes("a\x0bb\u2028c\rd\r\ne\n".encode())
    assert Words(wildcard_folder=folder).wildcards()["odd"] == ("a\x0bb\u2028c", "d", "e")


def test_links_are_followed_but_not_round_and_round(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("collection")
    (other / "animal.txt").write_text("cat\n", encoding="utf-8")
    (other / "up").symlink_to(folder)
    (folder / "shared").symlink_to(other)
    assert sorted(Words(wildcard_folder=folder).wildcards()) == ["colour", "old", "shared/animal"]


def test_text_of_two_bytes_a_character_is_refused_where_it_has_no_mark(folder: Path):
    (folder / "wide.txt").write_bytes("red".encode("utf-16-le"))
    with pytest.raises(BadFile, match=r"wide\.txt: is no text in UTF-8 \(it has a character of code 0\)"):
        expand("__wide__", 1, Words(wildcard_folder=folder).wildcards())


def test_styles_in_another_encoding_are_named(tmp_path: Path):
    (tmp_path / "styles.csv").write_bytes("name,prompt\na,d\xe9j\xe0\n".encode("cp1252"))
    with pytest.raises(BadFile, match=r"styles\.csv: is no text in UTF-8 .*save it as UTF-8"):
        Words(tmp_path / "styles.csv").styles()


def test_the_package_brings_styles_that_a_file_may_replace(tmp_path: Path):
    bare = Words(tmp_path / "styles.csv")
    assert bare.styled("a fox", "", ["Woodcut"]) == (
        "woodcut print of a fox, bold carved lines, two colours",
        "photograph, gradient, soft shading",
    )
    (tmp_path / "styles.csv").write_text('name,prompt\nWoodcut,"{prompt}, my own"\n', encoding="utf-8")
    assert bare.styled("a fox", "", ["Woodcut"]) == ("a fox, my own", "")
    assert "Watercolour" in bare.styles()


def test_each_packaged_style_says_where_the_prompt_stands():
    for style in packaged().values():
        assert style.prompt.count("{prompt}") == 1, style.name
        assert "{prompt}" not in style.negative_prompt
