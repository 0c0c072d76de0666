"""Atelier: a complete Stable Diffusion.

>>> import atelier
>>> atelier.generate("a red apple on a blue background", seed=7)[0].save("apple.png")

Importing this loads nothing heavy; torch comes with the first image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.compose import engine as engine
    from atelier.compose import generate as generate
    from atelier.compose import grid as grid
    from atelier.compose import upscale as upscale
    from atelier.request.model import Request as Request
    from atelier.runtime.comparing import Comparison as Comparison
    from atelier.runtime.engine import Engine as Engine
    from atelier.runtime.engine import GeneratedImage as GeneratedImage

__version__ = "0.1.0"
__all__ = ["Comparison", "Engine", "GeneratedImage", "Request", "__version__", "engine", "generate", "grid", "upscale"]

_HOMES = {
    "Comparison": "atelier.runtime.comparing",
    "GeneratedImage": "atelier.runtime.engine",
    "Request": "atelier.request.model",
    "Engine": "atelier.runtime.engine",
    "generate": "atelier.compose",
    "engine": "atelier.compose",
    "upscale": "atelier.compose",
    "grid": "atelier.compose",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
