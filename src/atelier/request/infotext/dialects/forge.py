"""Forge and its heir Forge Neo: A1111's form, with versions of their own."""

from __future__ import annotations

import re

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.record import Infotext


def is_neo(source: Source) -> bool:
    return source.version.startswith("neo")


def read_neo(source: Source) -> Infotext:
    return source.lines.record("forge-neo")


def is_forge(source: Source) -> bool:
    return re.match(r"f\d", source.version) is not None


def read_forge(source: Source) -> Infotext:
    return source.lines.record("forge")


SPECS = (
    Dialect("forge-neo", (Form(160, is_neo, read_neo),), rng=rng("nv")),
    Dialect("forge", (Form(170, is_forge, read_forge),), rng=rng("nv"), is_a1111=True),
)
