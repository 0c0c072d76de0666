"""A1111's own texts, and all others in its form that nobody else claims; also inside of its API's answers."""

from __future__ import annotations

from typing import cast

from atelier.request.infotext.dialect import Dialect, Form, Source, recognised, rng, text_source
from atelier.request.infotext.fields import as_fields
from atelier.request.infotext.lines import lines_of
from atelier.request.infotext.record import Infotext

_ANSWERS = ("parameters", "info", "infotexts")
"""Where the API of A1111, and programs that keep the chunks of a PNG as JSON, say a text."""


def text_of(source: Source) -> str | None:
    """The text in an object; of several the first. None if it has none with parameters."""
    for name in _ANSWERS:
        value = source.fields.get(name)
        answer = as_fields(value).get("infotexts", value)
        several = cast("list[object]", answer) if isinstance(answer, list) else [answer]
        first = next(iter(several), None)
        if isinstance(first, str) and lines_of(first).parts.has_line:
            return first
    return None


def detects_answer(source: Source) -> bool:
    return bool(source.fields) and text_of(source) is not None


def read_answer(source: Source) -> Infotext:
    return recognised(text_source(text_of(source) or "")) or Infotext()


def detects(source: Source) -> bool:
    return bool(source.lines.pairs)


def read(source: Source) -> Infotext:
    return source.lines.record("a1111")


SPECS = (
    Dialect("a1111", (Form(95, detects_answer, read_answer), Form(990, detects, read)), rng=rng("nv"), is_a1111=True),
)
