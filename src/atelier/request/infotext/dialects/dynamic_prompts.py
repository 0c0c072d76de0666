"""The extension Dynamic Prompts of A1111, which adds the template of a prompt."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.record import Infotext


def detects(source: Source) -> bool:
    return "Template" in source.values


def read(source: Source) -> Infotext:
    return source.lines.record("dynamic-prompts")


SPECS = (Dialect("dynamic-prompts", (Form(230, detects, read),), rng=rng("nv"), is_a1111=True),)
