"""docs/steering.md: its table of annotators is the one that the registry makes today."""

from __future__ import annotations

import annotator_docs as docs
from atelier.vision.annotate import annotators


def test_the_page_is_current() -> None:
    text = docs.PAGE.read_text(encoding="utf-8")
    assert docs.page(text) == text, "run scripts/lib/annotator_docs.py"


def test_every_annotator_has_one_row() -> None:
    made = docs.annotator_table()
    assert all(made.count(f"| `{name}` |") == 1 for name in annotators())
