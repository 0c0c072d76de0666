"""Emoji scenes: images of one or two things with captions, each a pure function of (seed, index).

Lengths inside a scene are in cells: an image is 64 cells wide, whatever its size in pixels. What the caption leaves
open is always the same, and places are STEP cells apart: a whole number of positions on every level of an autoencoder
and a U-Net that halve the resolution four times. So a thing looks the same in the latents wherever it stands, and a
small network can learn many things; placed freely, it would have to learn each in every fraction of a position.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Literal, TypedDict, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from atelier.train.data import art
from atelier.train.data.shares import SHARES

T = TypeVar("T")
Split = Literal["train", "held_out"]
Kind = Literal["full", "small", "pair"]

CELLS = 64
FULL, SMALL = 50, 30
"""Length of a thing's longer side, alone and large, and small or beside another."""
MIDDLE, STEP, GRID = 32, 16, 4
"""Where a thing stands unless it is said, how far from there a named place is, and what a corner is a multiple of."""
HELD_OUT_PAIRS, HELD_OUT_COLOURS = 0.08, 0.05

BACKGROUNDS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "white": (255, 255, 255),
        "black": (0, 0, 0),
        "gray": (128, 128, 128),
        "red": (215, 35, 40),
        "orange": (255, 140, 0),
        "yellow": (255, 225, 60),
        "green": (30, 150, 65),
        "blue": (35, 80, 220),
        "purple": (125, 55, 180),
        "pink": (255, 165, 205),
        "brown": (115, 70, 35),
        "cyan": (60, 205, 225),
    }
)
"""Name -> RGB of the flat backgrounds, 0 to 255."""

PLACES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "in the top left": (-1, -1),
        "at the top": (0, -1),
        "in the top right": (1, -1),
        "on the left": (-1, 0),
        "on the right": (1, 0),
        "in the bottom left": (-1, 1),
        "at the bottom": (0, 1),
        "in the bottom right": (1, 1),
    }
)
"""Named places of a small thing -> direction from the centre (x to the right, y down)."""


@dataclass(frozen=True, slots=True)
class Concept:
    """A thing that can be generated: its CLDR short name in lower case, its emoji, its category, its article or ""."""

    name: str
    emoji: str
    category: str
    article: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A concept in a scene: centre and length of the longer side, in cells."""

    name: str
    x: float
    y: float
    extent: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What an image shows and the caption that says so; the objects of a pair from left to right."""

    kind: Kind
    objects: tuple[Placed, ...]
    background: str
    caption: str


class _Table(TypedDict):
    concepts: list[dict[str, str]]


@functools.cache
def concepts() -> tuple[Concept, ...]:
    """Everything that scenes are made of, in the order of the packaged table."""
    text = (files("atelier") / "data" / "emoji" / "concepts.json").read_text(encoding="utf-8")
    return tuple(Concept(**row) for row in cast("_Table", json.loads(text))["concepts"])


@functools.cache
def by_name() -> Mapping[str, Concept]:
    """Concepts by name."""
    return MappingProxyType({c.name: c for c in concepts()})


def is_held_out_pair(left: str, right: str) -> bool:
    """Whether `left` beside `right`, in this order, is kept from training: a function of the two names alone."""
    return _hash("pair", left, right) < HELD_OUT_PAIRS


def is_held_out_colour(name: str, background: str) -> bool:
    """Whether `name` on `background` is kept from training: a function of the two names alone."""
    return _hash("colour", name, background) < HELD_OUT_COLOURS


@functools.cache
def held_out_pairs() -> tuple[tuple[str, str], ...]:
    """All (left, right) pairs of different concepts that are kept from training."""
    names = [c.name for c in concepts()]
    return tuple((a, b) for a in names for b in names if a != b and is_held_out_pair(a, b))


@functools.cache
def held_out_colours() -> tuple[tuple[str, str], ...]:
    """All (concept, background) combinations that are kept from training."""
    return tuple((c.name, b) for c in concepts() for b in BACKGROUNDS if is_held_out_colour(c.name, b))


def scene(seed: int, index: int, split: Split = "train", shares: tuple[float, float, float] = SHARES) -> Scene:
    """Scene number `index` (>= 0) of the endless sequence `seed` (>= 0), of a kind that is drawn with these `shares`.

    "train" never shows a held-out pair or a held-out concept and background; "held_out" shows nothing else: its pairs
    are held-out pairs, its single things stand on held-out backgrounds.
    """
    random = np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))
    share = random.random() * sum(shares)
    if share < shares[0]:
        return _full(random, split)
    if share < shares[0] + shares[1]:
        return _small(random, split)
    return _pair(random, split)


def render(scene: Scene, size: int = CELLS, known: Mapping[str, Concept] | None = None) -> NDArray[np.uint8]:
    """The image of `scene`: uint8 RGB (size, size, 3). Nothing is cut off at the border, pairs do not overlap.

    known: what its names mean, by name; None: those of the packaged table.
    """
    named = by_name() if known is None else known
    canvas = np.empty((size, size, 3), np.uint8)
    canvas[:] = BACKGROUNDS[scene.background]
    for placed, room in _roomed(scene, size):
        _paste(canvas, placed, named[placed.name].emoji, room)
    return canvas


def layers(scene: Scene, size: int = CELLS) -> list[NDArray[np.float32]]:
    """How much each thing of `scene` covers of each pixel of its image, 0 to 1: (size, size) each."""
    found: list[NDArray[np.float32]] = []
    for placed, room in _roomed(scene, size):
        sprite, top, left = _placed(placed, by_name()[placed.name].emoji, room, size)
        mask = np.zeros((size, size), np.float32)
        mask[top : top + sprite.shape[0], left : left + sprite.shape[1]] = sprite[..., 3] / np.float32(255)
        found.append(mask)
    return found


def _roomed(scene: Scene, size: int) -> Iterator[tuple[Placed, tuple[int, int]]]:
    """The things of a scene, with the columns that each has for itself."""
    pair = len(scene.objects) == 2
    for number, placed in enumerate(scene.objects):
        yield placed, (number * size // 2, (number + 1) * size // 2) if pair else (0, size)


def large(name: str, background: str) -> Scene:
    """One thing alone, as large as it gets, in the plainest words."""
    return Scene("full", (Placed(name, MIDDLE, MIDDLE, FULL),), background, with_article(name) + on(background))


def small(name: str, background: str, place: str | None = None) -> Scene:
    """One small thing, in the middle or at one of PLACES, in the plainest words."""
    across, down = (0, 0) if place is None else PLACES[place]
    placed = Placed(name, MIDDLE + STEP * across, MIDDLE + STEP * down, SMALL)
    words = with_article(name, "small") + (f" {place}" if place else "")
    return Scene("small", (placed,), background, words + on(background))


def pair(left: str, right: str, background: str) -> Scene:
    """Two things side by side, in the plainest words."""
    words = f"{with_article(left)} to the left of {with_article(right)}"
    return Scene("pair", _beside(left, right), background, words + on(background))


def on(background: str) -> str:
    """How a caption says the background, with a space before it."""
    return f" on {'an' if background[0] in 'aeiou' else 'a'} {background} background"


def _full(random: np.random.Generator, split: Split) -> Scene:
    name, background = _single(random, split)
    style = random.random()
    phrase = with_article(name, "large") if style < 0.15 else name if style < 0.25 else with_article(name)
    return Scene("full", (Placed(name, MIDDLE, MIDDLE, FULL),), background, phrase + _ground(random, background))


def _small(random: np.random.Generator, split: Split) -> Scene:
    name, background = _single(random, split)
    phrase = f"small {name}" if random.random() < 0.1 else with_article(name, "small")
    x = y = MIDDLE
    if random.random() < 0.4:
        place = tuple(PLACES)[random.integers(len(PLACES))]
        x, y = (MIDDLE + STEP * direction for direction in PLACES[place])
        phrase = f"{phrase} {place}"
    return Scene("small", (Placed(name, x, y, SMALL),), background, phrase + _ground(random, background))


def _pair(random: np.random.Generator, split: Split) -> Scene:
    left, right, background = _two(random, split)
    first, second, side = (left, right, "left") if random.random() < 0.6 else (right, left, "right")
    style = random.random()
    if style < 0.1:
        phrases = first, second
    else:
        phrases = with_article(first, "small" if style < 0.3 else ""), with_article(second)
    caption = f"{phrases[0]} to the {side} of {phrases[1]}" + _ground(random, background)
    return Scene("pair", _beside(left, right), background, caption)


def _beside(left: str, right: str) -> tuple[Placed, Placed]:
    return Placed(left, MIDDLE - STEP, MIDDLE, SMALL), Placed(right, MIDDLE + STEP, MIDDLE, SMALL)


def with_article(name: str, adjective: str = "") -> str:
    """ "a red apple", "a large red apple", "grapes": the concept with its article and an adjective before it."""
    article = by_name()[name].article
    words = (article and ("a" if adjective else article), adjective, name)
    return " ".join(word for word in words if word)


def _ground(random: np.random.Generator, background: str) -> str:
    """How the caption says the background; in a seventh of the scenes it does not."""
    return "" if random.random() >= 0.85 else on(background)


def _single(random: np.random.Generator, split: Split) -> tuple[str, str]:
    if split == "held_out":
        combinations = held_out_colours()
        return combinations[random.integers(len(combinations))]
    names, grounds = concepts(), tuple(BACKGROUNDS)
    return _until(
        lambda: (names[random.integers(len(names))].name, grounds[random.integers(len(grounds))]),
        lambda drawn: not is_held_out_colour(*drawn),
    )


def _two(random: np.random.Generator, split: Split) -> tuple[str, str, str]:
    names, grounds = concepts(), tuple(BACKGROUNDS)
    if split == "held_out":
        pairs = held_out_pairs()
        return (*pairs[random.integers(len(pairs))], grounds[random.integers(len(grounds))])

    def draw() -> tuple[str, str, str]:
        left, right, ground = (int(random.integers(n)) for n in (len(names), len(names), len(grounds)))
        return names[left].name, names[right].name, grounds[ground]

    return _until(draw, lambda drawn: _trainable(*drawn))


def _trainable(left: str, right: str, background: str) -> bool:
    colours_known = not (is_held_out_colour(left, background) or is_held_out_colour(right, background))
    return left != right and colours_known and not is_held_out_pair(left, right)


def _until(draw: Callable[[], T], accept: Callable[[T], bool]) -> T:
    while not accept(drawn := draw()):
        pass
    return drawn


@functools.cache
def _hash(*words: str) -> float:
    """A number in [0, 1) that depends on the words alone, the same on every placement."""
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _paste(canvas: NDArray[np.uint8], placed: Placed, emoji: str, room: tuple[int, int]) -> None:
    """Composites one object over `image`, moved where necessary into the columns `room` and the image's rows."""
    sprite, top, left = _placed(placed, emoji, room, len(canvas))
    height, width = sprite.shape[:2]
    region = canvas[top : top + height, left : left + width]
    veiled = region.astype(np.uint16) * (255 - sprite[..., 3:].astype(np.uint16))
    region[:] = np.minimum(sprite[..., :3] + (veiled + 127) // 255, 255)


def _placed(placed: Placed, emoji: str, room: tuple[int, int], size: int) -> tuple[NDArray[np.uint8], int, int]:
    """(its sprite with premultiplied colours, the row and the column of the sprite's first pixel)."""
    cell = size / CELLS
    sprite = art.sprite(emoji, min(round(placed.extent * cell), room[1] - room[0]))
    height, width = sprite.shape[:2]
    grid = max(1, round(GRID * cell))
    top = _inside(placed.y * cell - height / 2, 0, size - height, grid)
    return sprite, top, _inside(placed.x * cell - width / 2, room[0], room[1] - width, grid)


def _inside(value: float, low: int, high: int, grid: int) -> int:
    """The multiple of `grid` nearest to `value` that is at most `high`, or else `low`."""
    return max(low, min(math.floor(value / grid + 0.5), high // grid) * grid)
