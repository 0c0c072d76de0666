"""The colours of one image given to another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""From linear sRGB, white D65 (IEC 61966-2-1)."""
FROM_XYZ: Floats = np.linalg.inv(TO_XYZ)
WHITE: Floats = TO_XYZ.sum(1)
LUMA = np.array([0.3, 0.59, 0.11])
"""Of the W3C's blend modes (Compositing and Blending Level 1, section 10.2)."""
BEND = (6 / 29) ** 3


def corrected(image: Image.Image, like: Image.Image) -> Image.Image:
    """`image` with the distribution of colours that `like` has, and its own light and shadow (both RGB).

    The histograms of L, a and b are matched, and then the luminosity is put back, as in A1111.
    """
    own, wanted = lab(np.asarray(image) / 255), lab(np.asarray(like.resize(image.size)) / 255)
    matched = np.stack([_matched(own[..., c], wanted[..., c]) for c in range(3)], axis=-1)
    coloured = rgb(matched).clip(0, 1)
    return Image.fromarray((_with_luminosity(coloured, np.asarray(image) / 255) * 255).round().astype(np.uint8))


def lab(srgb: Floats) -> Floats:
    """CIE L*a*b* of sRGB values from 0 to 1, (..., 3)."""
    linear: Floats = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    ratio: Floats = linear @ TO_XYZ.T / WHITE
    bent: Floats = np.where(ratio > BEND, ratio.clip(0) ** (1 / 3), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb(values: Floats) -> Floats:
    """The inverse of `lab`; outside of 0 to 1 for colours that sRGB does not have."""
    lightness, a, b = values[..., 0], values[..., 1], values[..., 2]
    y = (lightness + 16) / 116
    bent: Floats = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    ratio: Floats = np.where(bent > 6 / 29, bent**3, 3 * (6 / 29) ** 2 * (bent - 4 / 29))
    linear: Floats = ratio * WHITE @ FROM_XYZ.T
    srgb: Floats = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055)
    return srgb


def _matched(own: Floats, wanted: Floats) -> Floats:
    """`own` with the distribution of `wanted`: its values in order become those of the same rank."""
    _, places, counts = np.unique(own, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) / own.size
    others, other_counts = np.unique(wanted, return_counts=True)
    return np.interp(ranks, np.cumsum(other_counts) / wanted.size, others)[places].reshape(own.shape)


def _with_luminosity(colour: Floats, light: Floats) -> Floats:
    """The W3C's blend mode `luminosity`: the hue and saturation of `colour`, the luminosity of `light`."""
    moved = colour + ((light - colour) @ LUMA)[..., None]
    luma = (moved @ LUMA)[..., None]
    low, high = moved.min(-1, keepdims=True), moved.max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(low < 0, luma + (moved - luma) * luma / (luma - low), moved)
        moved = np.where(high > 1, luma + (moved - luma) * (1 - luma) / (high - luma), moved)
    return moved.clip(0, 1)
