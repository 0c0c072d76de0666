"""Growing an image beyond its frame: what the margin holds at the start, and how the result meets the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from atelier.vision.masks import Box

Floats = NDArray[np.float64]

FEATHER = 16
"""Pixels into the margin over which the result is brought to the image's edge."""
NOISE = 12
"""Deviation of what is added far from the image, of 255: a flat colour gives a network nothing to begin with."""
SEED = 0
"""The margin is the same for every image: what differs comes from the noise of the samples."""


def grown(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """`image` (RGB) at `box` of a canvas of `size`; around it its edge goes on, more and more blurred and noisy."""
    edges = _padded(np.asarray(image, np.float64), size, box)
    blurred = Image.fromarray(edges.astype(np.uint8)).filter(ImageFilter.GaussianBlur(max(box.size) / 8))
    far = (_distance(size, box) / max(box.size) * 4).clip(0, 1)[..., None]
    noise = np.random.default_rng(SEED).normal(0, NOISE, edges.shape)
    mixed = edges * (1 - far) + (np.asarray(blurred, np.float64) + noise) * far
    canvas = Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
    canvas.paste(image, box[:2])
    return canvas


def margin(size: tuple[int, int], box: Box) -> Image.Image:
    """The mask (L) of what is around `box`."""
    mask = Image.new("L", size, 255)
    mask.paste(0, box)
    return mask


def joined(original: Image.Image, made: Image.Image, box: Box) -> Image.Image:
    """`original` at `box`, `made` around it (both RGB, of one size): brought to the image's edge over FEATHER pixels.

    What a network decodes is never quite the image that it was given; the difference at the edge, smoothed along it,
    is taken out of the margin and fades away from the edge.
    """
    kept, new = (np.asarray(layer, np.float64) for layer in (original, made))
    inside = slice(box.top, box.bottom), slice(box.left, box.right)
    wrong = _padded((kept - new)[inside], made.size, box)
    fade = (1 - _distance(made.size, box) / FEATHER).clip(0, 1)[..., None] ** 2
    result = (new + wrong * fade).round().clip(0, 255).astype(np.uint8)
    result[inside] = np.asarray(original)[inside]
    return Image.fromarray(result)


def _padded(values: Floats, size: tuple[int, int], box: Box) -> Floats:
    """Values (h, w, C) of a box on a canvas of `size`, its outermost ones going on."""
    down, across = (box.top, size[1] - box.bottom), (box.left, size[0] - box.right)
    return np.pad(values, (down, across, (0, 0)), mode="edge")


def _distance(size: tuple[int, int], box: Box) -> Floats:
    """(h, w): pixels to the nearest one of the box, 0 inside."""
    across, down = (
        np.maximum(np.maximum(low - np.arange(length), np.arange(length) - (high - 1)), 0)
        for low, high, length in ((box.left, box.right, size[0]), (box.top, box.bottom, size[1]))
    )
    return np.hypot(across[None, :], down[:, None])
