"""Hints of emoji scenes, exact because a scene is known: what is where, how near, which way its surface looks.

What they show is the common forms of such hints: colours by kind of thing on black (segmentation), nearer is brighter
(depth), a surface's direction as a colour (normal), and a skeleton of joints and limbs, here the corners of each
thing's box around its middle (keypoints).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from atelier.train.data.scenes import CELLS, FULL, SMALL, Placed, Scene, by_name, layers, on, with_article
from atelier.vision.annotate import annotator, ready

COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "food": (255, 0, 0),
        "animals": (0, 255, 0),
        "objects": (255, 128, 0),
        "vehicles": (0, 0, 255),
        "people and faces": (255, 255, 0),
        "places": (128, 0, 255),
        "sports and games": (0, 255, 255),
        "weather and sky": (0, 128, 255),
        "clothing": (255, 0, 255),
        "plants": (0, 255, 128),
        "music and art": (255, 0, 128),
        "festivities": (128, 255, 0),
    }
)
"""Of each category of emoji: corners and edges of the cube of colours."""
OTHER = (255, 255, 255)
NEAREST, EDGE = 255, 96
"""Brightness of the middle and of the edge of the largest things; smaller ones are further away."""
JOINTS = ((255, 0, 0), (255, 170, 0), (85, 255, 0), (0, 255, 255), (85, 0, 255))
"""Colours of the middle, and of the corners from the top left on, clockwise."""
SMOOTH = 16
"""The radius of the dome that a thing is taken for, in parts of an image's side."""

Mask = NDArray[np.float32]


def what(scene: Scene) -> str:
    """A caption that says what a scene shows, but not where nor how large: that is left to the hint."""
    return " and ".join(with_article(placed.name) for placed in scene.objects) + on(scene.background)


def moved(scene: Scene, random: np.random.Generator) -> Scene:
    """The scene with its only thing anywhere in the image, as large as a small one, a large one, or between them, and
    with a caption that says what alone; a pair stays as it is."""
    if scene.kind == "pair":
        return scene
    extent = random.uniform(SMALL, FULL)
    x, y = random.uniform(extent / 2, CELLS - extent / 2, 2)
    placed = Placed(scene.objects[0].name, float(x), float(y), float(extent))
    return replace(scene, objects=(placed,), caption=what(scene))


def segmentation(scene: Scene, size: int) -> Image.Image:
    """Each thing in the colour of its category, on black."""
    canvas = np.zeros((size, size, 3), np.uint8)
    for placed, mask in zip(scene.objects, layers(scene, size), strict=True):
        canvas[mask > 0.5] = COLOURS.get(by_name()[placed.name].category, OTHER)
    return Image.fromarray(canvas)


def depth(scene: Scene, size: int) -> Image.Image:
    """Each thing as a dome, the larger the nearer, before a ground that is infinitely far."""
    canvas = np.zeros((size, size), np.float32)
    for placed, mask in zip(scene.objects, layers(scene, size), strict=True):
        near = (EDGE + (NEAREST - EDGE) * _dome(mask)) * (0.5 + 0.5 * placed.extent / FULL)
        canvas = np.where(mask > 0.5, near, canvas)
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).convert("RGB")


def normal(scene: Scene, size: int) -> Image.Image:
    """The direction of the surface of the depths, as the annotator normal_from_depth draws it."""
    return ready(annotator("normal_from_depth"), lambda _: None, torch.device("cpu")).hint(depth(scene, size))


def keypoints(scene: Scene, size: int) -> Image.Image:
    """A skeleton of each thing: its middle, the corners of its box, and limbs between them, on black."""
    canvas = Image.new("RGB", (size, size))
    draw = ImageDraw.Draw(canvas)
    width = max(1, size // 64)
    for mask in layers(scene, size):
        rows, columns = (np.flatnonzero((mask > 0.5).any(axis)) for axis in (1, 0))
        left, right, top, bottom = columns[0], columns[-1], rows[0], rows[-1]
        middle = ((left + right) / 2, (top + bottom) / 2)
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        for corner, colour in zip(corners, JOINTS[1:], strict=True):
            draw.line((middle, corner), tuple(int(0.6 * part) for part in colour), width)
        for point, colour in zip((middle, *corners), JOINTS, strict=True):
            draw.circle(point, 1.5 * width, colour)
    return canvas


def _dome(mask: Mask) -> Mask:
    """0 at the edge of a thing, 1 in its middle."""
    size = len(mask)
    image = Image.fromarray((mask > 0.5).astype(np.uint8) * 255)
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(size / SMOOTH)), np.float32)
    inside = np.where(mask > 0.5, soft, 0.0)
    low, high = inside[mask > 0.5].min(), inside.max()
    return ((inside - low) / max(high - low, 1.0)).astype(np.float32)


HINTS: Mapping[str, Callable[[Scene, int], Image.Image]] = MappingProxyType(
    {"segmentation": segmentation, "depth": depth, "normal": normal, "keypoints": keypoints}
)
"""By the type of the control that reads them. Edges are drawn of the image itself."""
