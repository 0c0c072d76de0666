"""Making an image larger, by the name of what does it. The one place that a second pass asks."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image

FILTERS: Mapping[str, Image.Resampling] = {
    "None": Image.Resampling.LANCZOS,  # A1111's word for an image that is only resized
    "Lanczos": Image.Resampling.LANCZOS,
    "Bicubic": Image.Resampling.BICUBIC,
    "Nearest": Image.Resampling.NEAREST,
}


def image_upscalers() -> tuple[str, ...]:
    """The names of those that there are."""
    return tuple(FILTERS)


def enlarge(image: Image.Image, width: int, height: int, name: str) -> Image.Image:
    """The image (RGB) at exactly width x height pixels. name: one of `image_upscalers`."""
    return image.resize((width, height), FILTERS[name])
