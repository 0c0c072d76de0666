"""Reading an infotext of any dialect."""

from __future__ import annotations

from atelier.request.infotext.around import value_of_listing
from atelier.request.infotext.dialect import Source, object_source, recognised, text_source
from atelier.request.infotext.fields import Fields, as_fields
from atelier.request.infotext.record import Infotext


def read(text: str) -> Infotext:
    """The infotext that a text is: JSON or a command line of another program, or lines in A1111's form; a text without
    any of this is a prompt, JSON in which nothing is known is nothing. Never raises, linear time."""
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
    return object_source(fields) if fields else text_source(text)
