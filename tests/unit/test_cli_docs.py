"""docs/cli.md: its tables are those that the command and the fields make today."""

from __future__ import annotations

import re

import cli_docs as docs
from atelier.request.table import FIELDS


def test_the_page_is_current() -> None:
    text = docs.PAGE.read_text(encoding="utf-8")
    assert docs.page(text) == text, "run scripts/lib/cli_docs.py"


def test_every_field_is_on_the_page_once() -> None:
    options, fields = docs.option_table(), docs.field_table()
    for field in FIELDS.values():
        option = field.option
        if option is None:
            assert fields.count(f"| `{field.name}` |") == 1, field.name
        elif field.name != "prompt":
            name = option.names[0] if option.names else "--" + field.name.replace("_", "-")
            assert len(re.findall(rf"^\| `{name}[ `]", options, re.MULTILINE)) == 1, field.name
            assert f"| {docs.plain(field.help.text)} |" in options


def test_numbers_are_said_as_people_say_them() -> None:
    assert docs.limits(FIELDS["seed"]) == "-1 to 2^64 - 1"
    assert docs.limits(FIELDS["beta_alpha"]) == "0.01 to 100"
    assert docs.limits(FIELDS["seed_resize"]) == "each side 0 to 4096"
