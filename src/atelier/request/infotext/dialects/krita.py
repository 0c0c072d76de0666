"""Krita's plugin: A1111's form, with the title of a preset in place of a sampler."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.sampler import is_titled


def detects(source: Source) -> bool:
    return is_titled(source.values.get("Sampler", ""))


def read(source: Source) -> Infotext:
    return source.lines.record("krita")


SPECS = (Dialect("krita", (Form(210, detects, read),), rng=rng("cpu")),)
