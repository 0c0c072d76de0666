"""Grey values and colours of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


def grey(values: Pixels) -> Pixels:
    """(h, w) in three equal channels."""
    return np.repeat(values[..., None], 3, axis=2)


def cut(values: Floats) -> Pixels:
    """0 to 255, fractions cut off."""
    return values.clip(0, 255).astype(np.uint8)


def stretched(values: Floats) -> Floats:
    """From the least to the largest value, 0 to 1; all 0 where there is but one value."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros(values.shape)


def normals(depth: Floats, background: float, height: float = 2 * np.pi) -> Pixels:
    """The hint of ControlNet 1.0's normal model for (h, w) depths, larger is nearer: normals of the surface.

    What is further than `background`, of 0 to 1 from the furthest to the nearest, is flat. Blue, green and red are the
    parts across, down and towards the viewer, the reverse of the usual order: so the model was trained.
    """
    from atelier.vision.arrays.filters import sobel

    is_far = stretched(depth) < background
    across, down = (np.where(is_far, 0.0, part) for part in sobel(depth))
    normal = np.stack([np.full(depth.shape, height), down, across], axis=2)
    return cut(normal / np.linalg.norm(normal, axis=2, keepdims=True) * 127.5 + 127.5)
