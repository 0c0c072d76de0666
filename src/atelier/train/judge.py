"""Which concept an image shows, by comparison with rendered references. Nothing is learned.

The distance. With J the image minus its background colour and F a reference on the same background minus that colour,
both 64 pixels wide,

    d(J, F) = |J - F|^2 / ((|J|^2 + |F|^2) / 2),    |X|^2 = sum over frequencies of W |X^|^2,
    W(w) = exp(-(BLUR |w|)^2) (1 + (EDGES |w|)^2)

which is the mean squared difference of slightly blurred colours plus that of their gradients, relative to how much
there is to see, so that flat areas do not dominate: 0 for equal images, 2 for unrelated ones. A concept's distance is
the least over all positions where the whole reference lies inside the image (or its half) and over all sizes of the
kind. Positions come from one inverse Fourier transform a reference; a first pass at half resolution compares every
concept, a second one at full resolution the nearest FINALISTS.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atelier.train.data import art, scenes

Kind = Literal["full", "small", "left", "right"]
Floats = NDArray[np.float32]
Complex = NDArray[np.complex64]

BLUR, EDGES = 1.2, 0.5
"""In pixels of an image 64 wide. More weight on edges punishes things that are generated well but slightly bent."""
FINALISTS = 6
EXTENTS: dict[Kind, tuple[int, ...]] = {
    "full": (48, 52),
    "small": (29, 33),
    "left": (27, 30),
    "right": (27, 30),
}
"""Lengths of the references' longer side in the first pass; the second adds one pixel more and one less."""
ROOM: dict[Kind, tuple[int, int]] = {
    "full": (0, scenes.CELLS),
    "small": (0, scenes.CELLS),
    "left": (0, scenes.CELLS // 2 + 2),
    "right": (scenes.CELLS // 2 - 2, scenes.CELLS),
}
"""The columns that are looked at; halves overlap a little, as generated things may reach over the middle."""
BORDER = 3
NOTHING = 1e-6


class Verdict(NamedTuple):
    """The nearest concept, its distance (0 to 2), and all concepts from near to far."""

    name: str
    distance: float
    ranking: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges images of `size` pixels (a multiple of 64). known: what they may show."""

    size: int = scenes.CELLS
    known: tuple[scenes.Concept, ...] = field(default_factory=scenes.concepts)

    def background(self, image: NDArray[np.uint8]) -> str:
        """The named background nearest to most of the border of `image` (uint8 RGB (size, size, 3))."""
        return _ground(self._reduced(image))[0]

    def concept(self, image: NDArray[np.uint8], kind: Kind = "full") -> Verdict:
        """What `image` shows: one thing ("full" or "small", anywhere), or the one in its left or right half."""
        reduced = self._reduced(image)
        colour = _ground(reduced)[1]
        difference = reduced - colour
        difference[:, : ROOM[kind][0]] = difference[:, ROOM[kind][1] :] = 0
        first = _distances(_averaged(difference, 2), colour, _everything(EXTENTS[kind], self.known), ROOM[kind])
        by_concept = first.reshape(-1, len(EXTENTS[kind]))
        order = np.argsort(by_concept.min(1), kind="stable")
        nearest = order[:FINALISTS]
        wanted = [(int(i), EXTENTS[kind][by_concept[i].argmin()] + more) for i in nearest for more in (-1, 0, 1)]
        second = (
            _distances(difference, colour, _references(wanted, 1, self.known), ROOM[kind]).reshape(FINALISTS, -1).min(1)
        )
        ranking = np.concatenate((nearest[np.argsort(second, kind="stable")], order[FINALISTS:]))
        names = tuple(self.known[int(i)].name for i in ranking)
        return Verdict(names[0], max(0.0, float(second.min())), names)

    def _reduced(self, image: NDArray[np.uint8]) -> Floats:
        """The image 64 pixels wide, 0 to 1."""
        if image.shape != (self.size, self.size, 3) or self.size % scenes.CELLS:
            raise ValueError(f"image {image.shape}: expected ({self.size}, {self.size}, 3), a multiple of 64")
        return _averaged(image.astype(np.float32) / np.float32(255), self.size // scenes.CELLS)


@dataclass(frozen=True, slots=True)
class _References:
    """N references at the top left of a canvas of n pixels: premultiplied RGB and alpha.

    conjugates: of their spectra, (n * (n // 2 + 1), N, 4), so that one matrix product a frequency compares all.
    own: energies of R, G, B and alpha (N, 4); shared: inner products of R, G and B with alpha (N, 3). sides: height and
    width of each in pixels (N, 2).
    """

    conjugates: Complex
    own: Floats
    shared: Floats
    sides: NDArray[np.int64]


def _references(wanted: Sequence[tuple[int, int]], factor: int, known: Sequence[scenes.Concept]) -> _References:
    """References of (concept number, extent in pixels of 64), averaged over squares of `factor` pixels."""
    canvases = np.zeros((len(wanted), scenes.CELLS, scenes.CELLS, 4), np.float32)
    sides: list[tuple[int, int]] = []
    for canvas, (number, extent) in zip(canvases, wanted, strict=True):
        sprite = art.sprite(known[number].emoji, extent)
        height, width = sprite.shape[:2]
        canvas[:height, :width] = sprite / np.float32(255)
        sides.append((-(-height // factor), -(-width // factor)))
    conjugates = np.ascontiguousarray(_spectra(_averaged(canvases, factor)).conj())
    weight = _energy_weight(scenes.CELLS // factor).reshape(-1)
    own = np.einsum("fkc,f->kc", np.abs(conjugates) ** 2, weight)
    shared = np.einsum("fkc,fk,f->kc", conjugates[..., :3], conjugates[..., 3].conj(), weight, optimize=True).real
    return _References(conjugates, own, shared.astype(np.float32), np.array(sides))


@functools.cache
def _everything(extents: tuple[int, ...], known: tuple[scenes.Concept, ...]) -> _References:
    """All concepts at all `extents`, at half resolution."""
    return _references([(i, extent) for i in range(len(known)) for extent in extents], 2, known)


def _distances(difference: Floats, colour: Floats, references: _References, room: tuple[int, int]) -> Floats:
    """d of each reference at its best position: (N,). difference: (n, n, 3); colour: (3,), the background."""
    count = len(difference)
    seen = np.concatenate((difference, -(difference @ colour)[..., None]), axis=-1)
    spectrum = _spectra(seen[None])[:, 0]
    product = references.conjugates @ (spectrum * _weight(count).reshape(-1, 1))[..., None]
    overlap = np.fft.irfft2(product[..., 0].T.reshape(-1, count, count // 2 + 1), s=(count, count))
    best = np.where(_allowed(references.sides, count, room), overlap, -np.inf).max(axis=(1, 2))
    energy = float(np.sum(np.abs(spectrum[:, :3]) ** 2 * _energy_weight(count).reshape(-1, 1)))
    own = references.own[:, :3].sum(1) - 2 * references.shared @ colour + references.own[:, 3] * (colour @ colour)
    return 2 - 4 * best / (own + energy + NOTHING)


def _allowed(sides: NDArray[np.int64], count: int, room: tuple[int, int]) -> NDArray[np.bool_]:
    """Positions (N, n, n) of the top left corner that keep a reference inside the columns `room`."""
    low, high = (column * count // scenes.CELLS for column in room)
    place = np.arange(count)
    rows = place <= count - sides[:, :1]
    columns = (place >= low) & (place <= high - sides[:, 1:])
    return rows[:, :, None] & columns[:, None, :]


def _spectra(images: Floats) -> Complex:
    """Real Fourier transforms of (N, n, n, C), frequencies first: (n * (n // 2 + 1), N, C)."""
    transformed = np.fft.rfft2(images, axes=(1, 2)).astype(np.complex64)
    number, down, across, channels = transformed.shape
    return transformed.transpose(1, 2, 0, 3).reshape(down * across, number, channels)


@functools.cache
def _weight(count: int) -> Floats:
    """W at the frequencies of a real transform of `count` pixels."""
    per_pixel = 2 * np.pi * count / scenes.CELLS
    down, across = per_pixel * np.fft.fftfreq(count), per_pixel * np.fft.rfftfreq(count)
    squared = down[:, None] ** 2 + across[None, :] ** 2
    return (np.exp(-(BLUR**2) * squared) * (1 + EDGES**2 * squared)).astype(np.float32)


@functools.cache
def _energy_weight(count: int) -> Floats:
    """W divided so that the sum over half the frequencies is a sum over pixels (Parseval)."""
    twice = np.full(count // 2 + 1, 2.0)
    twice[0] = twice[-1] = 1
    return (_weight(count) * twice / count**2).astype(np.float32)


def _averaged(images: Floats, factor: int) -> Floats:
    """(..., n, n, C) averaged over squares of `factor` pixels."""
    *lead, height, width, channels = images.shape
    blocks = images.reshape(*lead, height // factor, factor, width // factor, factor, channels)
    return blocks.mean(axis=(-4, -2))


def _ground(image: Floats) -> tuple[str, Floats]:
    """The named colour that most of the border is nearest to, and the median of those border pixels."""
    inside = np.zeros(image.shape[:2], bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    border = image[~inside]
    named = np.array(list(scenes.BACKGROUNDS.values()), np.float32) / 255
    votes = ((border[:, None] - named) ** 2).sum(-1).argmin(1)
    winner = int(np.bincount(votes, minlength=len(named)).argmax())
    return tuple(scenes.BACKGROUNDS)[winner], np.median(border[votes == winner], axis=0).astype(np.float32)
