"""docs/samplers.md: its tables are those that the registries make today."""

from __future__ import annotations

import pytest

import sampler_docs as docs
from atelier.diffusion.catalogue import samplers, schedules


def test_the_page_is_current() -> None:
    text = docs.PAGE.read_text(encoding="utf-8")
    assert docs.page(text) == text, "run scripts/lib/sampler_docs.py"


def test_every_entry_has_one_row() -> None:
    for made, registry in ((docs.sampler_table(), samplers()), (docs.schedule_table(), schedules())):
        names = [line.split(" | ")[0].removeprefix("| ") for line in made.splitlines()[2:]]
        assert sorted(names) == sorted(registry)


def test_every_name_of_other_programs_is_in_the_table() -> None:
    made = docs.sampler_table()
    for name in (*docs.COMFY, *(alias for spec in samplers().values() for alias in spec.aliases)):
        assert f"`{name}`" in made, name
    for name in docs.COMFY_SCHEDULES:
        assert f"`{name}`" in docs.schedule_table(), name


def test_calls_and_draws_are_counted() -> None:
    """20 steps: Heun asks twice but at the last, PLMS takes 19 steps and a call more, Euler a draws at all but one."""
    known = {"Euler": (20, 0), "Heun": (39, 0), "PLMS": (20, 0), "DDIM": (19, 19), "Euler a": (20, 19)}
    assert {name: docs.counted(samplers()[name], samplers()[name].own) for name in known} == known


def test_marks_that_are_missing_are_an_error() -> None:
    assert docs.filled("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", "x", "new\n") == (
        "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n"
    )
    with pytest.raises(ValueError, match="no marks"):
        docs.filled("nothing", "x", "new\n")
