"""docs/security.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs" / "security.md").read_text()
ROW = re.compile(r"^\| ([HIOCD]\d\d) \|", re.MULTILINE)


def test_every_test_that_the_table_names_exists() -> None:
    named = re.findall(r"`(\w+/test_\w+\.py)(?:::(\w+))?`", TABLE)
    assert len(named) > 40
    missing = [
        (file, name)
        for file, name in named
        if not (TESTS / file).is_file() or (name and f"def {name}(" not in (TESTS / file).read_text())
    ]
    assert missing == []


def test_each_attack_has_one_row() -> None:
    ids = ROW.findall(TABLE)
    assert len(ids) == len(set(ids))
    assert {f"H{n:02}" for n in range(2, 30) if n != 18} <= set(ids)
