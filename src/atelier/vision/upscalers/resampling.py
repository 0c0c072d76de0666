"""Upscalers without a network: Pillow's filters."""

from __future__ import annotations

from atelier.vision.upscaling import Filter

NEAREST, LANCZOS, BICUBIC = 0, 1, 3
"""Pillow's numbers: `PIL.Image.Resampling` itself would load Pillow with this module."""

SPECS = (
    Filter("None", LANCZOS),  # A1111's word for "only resized", which it does with this filter
    Filter("Nearest", NEAREST),
    Filter("Bicubic", BICUBIC),
    Filter("Lanczos", LANCZOS),
)
