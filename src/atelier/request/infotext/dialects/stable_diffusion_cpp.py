"""stable-diffusion.cpp: A1111's form. It writes an eta for all samplers, and distilled guidance for all models."""

from __future__ import annotations

from dataclasses import replace

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.keys import Settings
from atelier.request.infotext.record import Infotext

NAME = "stable-diffusion.cpp"
_WITH_ETA = frozenset({"DDIM", "TCD"})
"""The samplers that use the eta."""


def detects(source: Source) -> bool:
    return source.version.startswith(NAME)


def read(source: Source) -> Infotext:
    """It calls distilled guidance Guidance."""
    found = source.lines.record(NAME)
    pairs = tuple(("Distilled CFG Scale" if key == "Guidance" else key, value) for key, value in found.pairs)
    return replace(found, pairs=pairs)


def settle(settings: Settings) -> Settings:
    return settings if settings.sampler in _WITH_ETA else replace(settings, eta=None)


SPECS = (Dialect(NAME, (Form(140, detects, read),), rng=rng("cpu"), settle=settle),)
