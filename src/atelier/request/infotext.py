"""A1111's `parameters` text: what makes a picture again, in the form that the field's tools read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from atelier.request.model import Resolved, Rng

RNG_VALUES: Mapping[Rng, str] = {"portable": "portable", "cpu": "CPU", "nv": "NV"}
"""Values of the key RNG. A1111 knows CPU and NV; without the key it draws on the device that computes."""


def infotext(request: Resolved, picture: int, version: str) -> str:
    """The text of picture `picture` (0-based) of a request painted by release `version` of Atelier."""
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(joined(_pairs(request, picture, version)))
    return "\n".join(lines).strip()


def joined(pairs: Iterable[tuple[str, object]]) -> str:
    """The parameter line: pairs without a value are left out, a pair whose value is its key is written bare."""
    return ", ".join(key if key == value else f"{key}: {quoted(value)}" for key, value in pairs if value is not None)


def quoted(value: object) -> str:
    """A value as text; as a JSON string where a comma, a colon or a line break would end it early."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ",:\n") else text


def _pairs(request: Resolved, picture: int, version: str) -> tuple[tuple[str, object], ...]:
    return (
        ("Steps", request.steps),
        ("Sampler", request.sampler),
        ("Schedule type", request.scheduler),
        ("CFG scale", request.cfg_scale),
        ("Seed", request.seeds[picture]),
        ("Size", f"{request.width}x{request.height}"),
        ("Model hash", request.model.sha256[:10]),
        ("Model", request.model.name),
        ("RNG", RNG_VALUES[request.rng]),
        ("Version", f"atelier-{version}"),
    )
