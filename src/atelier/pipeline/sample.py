"""One image of a request, as stages see it."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.pipeline.prepared import PreparedPrompt
from atelier.request.infotext import Settings


@dataclass(frozen=True, slots=True)
class Sample:
    """index: its place among the images of the request, from 0; settings: what its infotext will say; regions: the
    prompts of each region."""

    index: int
    seed: int
    variation_seed: int
    prompt: PreparedPrompt
    settings: Settings
    regions: tuple[PreparedPrompt, ...] = ()
