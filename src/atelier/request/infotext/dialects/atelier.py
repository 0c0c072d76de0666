"""Atelier's own texts."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source
from atelier.request.infotext.record import Infotext


def detects(source: Source) -> bool:
    return source.version.startswith("atelier")


def read(source: Source) -> Infotext:
    return source.lines.record("atelier")


SPECS = (Dialect("atelier", (Form(120, detects, read),), keeps_ends=True),)
