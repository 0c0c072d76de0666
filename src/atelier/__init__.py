"""Atelier: a complete Stable Diffusion.

>>> import atelier
>>> atelier.generate("a red apple on a blue background", seed=7)[0].save("apple.png")

Importing this loads nothing heavy; torch comes with the first picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.compose import generate as generate
    from atelier.compose import studio as studio
    from atelier.request.model import Request as Request
    from atelier.runtime.studio import Picture as Picture
    from atelier.runtime.studio import Studio as Studio

__version__ = "0.1.0"
__all__ = ["Picture", "Request", "Studio", "__version__", "generate", "studio"]

_HOMES = {
    "Picture": "atelier.runtime.studio",
    "Request": "atelier.request.model",
    "Studio": "atelier.runtime.studio",
    "generate": "atelier.compose",
    "studio": "atelier.compose",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
