"""A1111's own texts, and all others in its form that nobody else claims."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.record import Infotext


def detects(source: Source) -> bool:
    return bool(source.lines.pairs)


def read(source: Source) -> Infotext:
    return source.lines.record("a1111")


SPECS = (Dialect("a1111", (Form(990, detects, read),), rng=rng("nv"), is_a1111=True),)
