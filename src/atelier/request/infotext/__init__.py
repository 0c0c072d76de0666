"""What makes a picture again, as text: written for every picture, read from pictures of every kind.

The form is A1111's, which the field's tools read. Keys and fields are one table, `keys`; `write` and `read` go
through it in opposite directions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from atelier.request.fields import Rng
from atelier.request.infotext.keys import Settings, Size
from atelier.request.infotext.pairs import joined, quoted
from atelier.request.infotext.read import read
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.request import interpret, to_request, without_effect
from atelier.request.infotext.write import write
from atelier.request.model import Provenance, Resolved
from atelier.request.table import FIELDS, flat

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Infotext",
    "Settings",
    "interpret",
    "joined",
    "pixel_hash",
    "quoted",
    "read",
    "settings",
    "to_request",
    "without_effect",
    "write",
]

RNG_VALUES: Mapping[Rng, str] = {"portable": "portable", "cpu": "CPU", "nv": "NV"}
"""Values of the key RNG. A1111 knows CPU and NV; without the key it draws on the device that computes."""


COPIED = frozenset(Settings.__slots__) & FIELDS.keys() - {"prompt", "negative_prompt", "model", "rng"}
"""Fields that mean the same in a request and in an infotext."""


def settings(request: Resolved, picture: int, words: tuple[str, str], provenance: Provenance) -> Settings:
    """What the infotext of picture `picture` (0-based) says, but for the hash of its pixels.

    words: its prompt and negative prompt, with the choices made; where they differ from the request's these are kept
    as templates.
    """
    asked, (prompt, negative_prompt) = request.asked, words
    varied = asked.noise.variation_strength > 0
    return replace(
        Settings(**{name: value for name, value in cast("dict[str, Any]", flat(asked)).items() if name in COPIED}),
        prompt=prompt,
        negative_prompt=negative_prompt,
        template=request.prompt if prompt != request.prompt else None,
        negative_template=request.negative_prompt if negative_prompt != request.negative_prompt else None,
        steps=request.steps,
        sampler=request.sampler,
        scheduler=request.scheduler,
        cfg_scale=request.cfg_scale,
        seed=request.seeds[picture],
        variation_seed=request.variation_seeds[picture] if varied else None,
        size=Size(request.width, request.height),
        model_hash=request.model.sha256[:10],
        model=request.model.name,
        rng=RNG_VALUES[asked.noise.rng],
        dtype=provenance.dtype,
        device=provenance.device,
        libraries=provenance.libraries,
        version=f"atelier-{provenance.version}",
    )


def pixel_hash(image: Image) -> str:
    """SHA-256 (hex) of a picture's size and RGB values: equal for equal pixels, whatever the file."""
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()
