"""SD.Next: A1111's form, with pairs of its own; its version is the hash of a commit, and no sign."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.record import Infotext


def detects(source: Source) -> bool:
    return source.values.get("App") == "SD.Next" or {"Parser", "Operations"} <= source.values.keys()


def read(source: Source) -> Infotext:
    return source.lines.record("sdnext")


SPECS = (Dialect("sdnext", (Form(150, detects, read),), rng=rng("nv")),)
