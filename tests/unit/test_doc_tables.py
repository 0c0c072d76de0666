"""Pages of the documentation whose tables are made: written anew, or only checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from doc_tables import write


def test_a_page_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["made.py"])
    page = tmp_path / "page.md"
    page.write_text("old")
    write(page, lambda text: f"{text} and new")
    assert page.read_text() == "old and new"


@pytest.mark.parametrize(("made", "code"), [("old", None), ("new", "page.md is not current: run made.py")])
def test_a_check_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, code: str | None) -> None:
    monkeypatch.setattr("sys.argv", ["made.py", "--check"])
    page = tmp_path / "page.md"
    page.write_text("old")
    with pytest.raises(SystemExit) as end:
        write(page, lambda _: made)
    assert end.value.code == code
    assert page.read_text() == "old"
