"""What makes a picture again, as text: written for every picture, read from pictures of every kind.

The form is A1111's, which the field's tools read. Keys and fields are one table, `infotext_keys`; `write` and `read` go
through it in opposite directions.
"""

from __future__ import annotations

from collections.abc import Mapping

from atelier.request.infotext_keys import Settings, Size
from atelier.request.infotext_pairs import joined, quoted
from atelier.request.infotext_read import read
from atelier.request.infotext_record import Infotext
from atelier.request.infotext_request import interpret, to_request
from atelier.request.infotext_write import write
from atelier.request.model import Resolved, Rng

__all__ = ["Infotext", "Settings", "infotext", "interpret", "joined", "quoted", "read", "to_request", "write"]

RNG_VALUES: Mapping[Rng, str] = {"portable": "portable", "cpu": "CPU", "nv": "NV"}
"""Values of the key RNG. A1111 knows CPU and NV; without the key it draws on the device that computes."""


def infotext(request: Resolved, picture: int, version: str) -> str:
    """The text of picture `picture` (0-based) of a request painted by release `version` of Atelier."""
    return write(
        Settings(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            steps=request.steps,
            sampler=request.sampler,
            scheduler=request.scheduler,
            cfg_scale=request.cfg_scale,
            seed=request.seeds[picture],
            size=Size(request.width, request.height),
            model_hash=request.model.sha256[:10],
            model=request.model.name,
            rng=RNG_VALUES[request.rng],
            version=f"atelier-{version}",
        )
    )
