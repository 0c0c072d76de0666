"""Aspect buckets: the few sizes that training images of any size are brought to. The rules are kohya's."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from atelier.errors import BadInput

MOST_CUT = 32
"""How much larger than its bucket an image may become: of a longer one next to nothing would be seen."""

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Sizes of about `area` pixels whose sides are multiples of `step`, from `smallest` to `largest`.

    step: 64 is kohya's; a network wants a multiple of what one position of its coarsest level covers. upscale: whether
    small images are enlarged to a bucket; if not, a bucket is as much of an image as multiples of `step` hold.
    Raises BadInput for numbers that make no bucket.
    """

    area: int
    step: int = 64
    smallest: int = 256
    largest: int = 1024
    upscale: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.smallest <= self.largest:
            raise BadInput(
                f"buckets from {self.smallest} to {self.largest} in steps of {self.step}: give a step of 1 or more, "
                "and a smallest side from the step to the largest side"
            )
        if self.smallest % self.step or self.largest % self.step:
            raise BadInput(
                f"buckets from {self.smallest} to {self.largest}: both are to be multiples of the step, {self.step}"
            )
        if self.area < self.step**2:
            raise BadInput(
                f"buckets of {self.area} pixels in steps of {self.step}: give a larger size or a smaller step"
            )

    @classmethod
    def of(cls, side: int, step: int = 64, *, upscale: bool = True) -> Buckets:
        """About as many pixels as a square of `side` has, sides from half of it to twice as much: kohya's own limits at
        512, and those that are published for 1024."""
        half = max(side // 2 // step, 1) * step
        return cls(side * side, step, half, max(2 * side // step * step, half), upscale)


@dataclass(frozen=True, slots=True)
class Fit:
    """How an image comes to the size of a bucket: resized to `scaled`, which is at least `size`, then cut."""

    size: Size
    scaled: Size


@functools.lru_cache(maxsize=64)
def sizes(buckets: Buckets) -> tuple[Size, ...]:
    """All sizes that are made for images of any proportions, sorted: the square, and for each width the largest height
    within the area, both ways round."""
    side = math.isqrt(buckets.area) // buckets.step * buckets.step
    found = {(side, side)}
    for width in range(buckets.smallest, buckets.largest + 1, buckets.step):
        height = min(buckets.largest, buckets.area // width // buckets.step * buckets.step)
        if height >= buckets.smallest:
            found |= {(width, height), (height, width)}
    return tuple(sorted(found))


def fitted(image: Size, shape: Buckets | Size) -> Fit:
    """The bucket of an image, or the one size that all images get. Raises BadInput where it is too small for any,
    or too narrow."""
    if not isinstance(shape, Buckets):
        return covering(image, shape)
    return covering(image, _nearest(image, shape)) if shape.upscale else _within(image, shape)


def covering(image: Size, size: Size) -> Fit:
    """The image is made as large as it takes to cover `size`; what is longer is cut. Raises BadInput where that is
    nearly all of it."""
    (width, height), (across, down) = image, size
    if max(width * down, height * across) > MOST_CUT * min(width * down, height * across):
        raise BadInput(f"{width}x{height} pixels are too narrow for {across}x{down}: cut the image, or take it out")
    if width * down > height * across:
        return Fit(size, (_rounded(width * down, height), down))
    return Fit(size, (across, _rounded(height * across, width)))


def _nearest(image: Size, buckets: Buckets) -> Size:
    """The image's own size if it is one of them, else that of the nearest proportions, the first if there are two."""
    known = sizes(buckets)
    if image in known:
        return image
    proportion = image[0] / image[1]
    return min(known, key=lambda size: abs(size[0] / size[1] - proportion))


def _within(image: Size, buckets: Buckets) -> Fit:
    scaled = _shrunk(image, buckets) if image[0] * image[1] > buckets.area else image
    size = _down(scaled[0], buckets.step), _down(scaled[1], buckets.step)
    if not min(size):
        raise BadInput(
            f"{image[0]}x{image[1]} pixels are too few for a bucket in steps of {buckets.step}: allow enlarging, or "
            "take the image out"
        )
    return Fit(size, scaled)


def _shrunk(image: Size, buckets: Buckets) -> Size:
    """The image within the area, its width or its height a multiple of the step, whichever keeps the proportions of the
    bucket nearer to those of the image."""
    proportion = image[0] / image[1]
    width = math.sqrt(buckets.area * proportion)
    across, down = _down(int(width + 0.5), buckets.step), _down(int(buckets.area / width + 0.5), buckets.step)
    beside_across = _down(int(across / proportion + 0.5), buckets.step)
    beside_down = _down(int(down * proportion + 0.5), buckets.step)
    if _error(across, beside_across, proportion) < _error(beside_down, down, proportion):
        return across, int(across / proportion + 0.5)
    return int(down * proportion + 0.5), down


def _error(width: int, height: int, proportion: float) -> float:
    return abs(width / height - proportion) if height else math.inf


def _down(value: int, step: int) -> int:
    return value - value % step


def _rounded(value: int, divisor: int) -> int:
    """value / divisor to the nearest whole number, a half upwards."""
    return (2 * value + divisor) // (2 * divisor)
