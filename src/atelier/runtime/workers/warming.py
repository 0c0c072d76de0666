"""Reading a model into memory before anybody waits for it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from atelier.pipeline.resources import AUTOENCODER, DENOISER, TEXT, PartOf
from atelier.runtime.engine import Engine

PARTS: tuple[PartOf[Any], ...] = (TEXT, DENOISER, AUTOENCODER)


def warm(engine: Engine, name: str) -> None:
    """Reads the parts of a model that every image needs. Raises BadInput for one that is not there."""
    found = engine.library.find(name)
    reference = engine.resources.refer(found.name, engine.resources.open(found.path))
    with ExitStack() as held:
        for part in PARTS:
            held.enter_context(engine.resources.borrow(reference, part))
