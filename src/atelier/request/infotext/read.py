"""Reading an infotext of any dialect."""

from __future__ import annotations

from atelier.request.infotext.around import value_of_listing
from atelier.request.infotext.dialect import Source, object_source, recognised, text_source, unread_source
from atelier.request.infotext.fields import Fields, as_fields
from atelier.request.infotext.record import Infotext

LONGEST = 100_000
"""Characters of lines that are taken apart: six times as many as a prompt may have. A megabyte of pairs would take
seconds, in which nobody else is answered."""


def read(text: str) -> Infotext:
    """The infotext that a text is: JSON or a command line of another program, or lines in A1111's form; a text without
    any of this is a prompt, JSON in which nothing is known is nothing. Longer lines than `LONGEST` are a prompt. Never
    raises, linear time."""
    source = source_of(text)
    return recognised(source) or Infotext(source=source.fields)


def read_object(fields: Fields) -> Infotext | None:
    """The infotext of a JSON object in a dialect that is known; None for others."""
    return recognised(object_source(fields)) if fields else None


def source_of(text: str) -> Source:
    """A text as the dialects see it."""
    stripped = text.strip().lstrip("\ufeff")
    listed = stripped if stripped.startswith("{") else (value_of_listing(stripped) or "").strip()
    fields = as_fields(listed) if listed.startswith("{") else {}
    if fields:
        return object_source(fields)
    return text_source(text) if len(text) <= LONGEST else unread_source(text)
