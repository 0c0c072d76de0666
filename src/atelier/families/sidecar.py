"""The .yaml beside a single file, in which CompVis' code and A1111 say what the file itself does not."""

from __future__ import annotations

import re
from pathlib import Path

from atelier.families.facts import PredictionType
from atelier.weights.formats.text import read_text

SUFFIX = ".yaml"
LARGEST = 100_000
"""Bytes; the published ones have about 3,000."""
VELOCITY = re.compile(r"^[^\S\n]*+parameterization:\s*[\"']?v[\"']?\s*$|\.VScaling\b", re.MULTILINE)
"""How CompVis' configurations say it, and those of Stability's generative-models."""
ANY = re.compile(r"\bLatentDiffusion\b|\bLatentInpaintDiffusion\b|\.EpsScaling\b")
"""Configurations that say nothing else mean epsilon."""


def prediction(path: Path) -> PredictionType | None:
    """What the configuration beside the file at `path` says that its model predicts; None where there is none, or none
    that says it. Raises BadFile for one that cannot be read."""
    beside = path.with_suffix(SUFFIX)
    if not beside.is_file() or beside.stat().st_size > LARGEST:
        return None
    text = read_text(beside)
    if VELOCITY.search(text):
        return "velocity"
    return "epsilon" if ANY.search(text) else None
