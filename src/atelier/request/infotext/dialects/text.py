"""Texts without any parameters: a prompt alone."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source
from atelier.request.infotext.record import Infotext


def detects(source: Source) -> bool:
    return not source.fields and not source.lines.pairs


def read(source: Source) -> Infotext:
    return source.lines.record("text")


SPECS = (Dialect("text", (Form(110, detects, read),)),)
