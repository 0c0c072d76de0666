"""Growing the canvas around an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from atelier.pipeline.lent import Lent
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.values import Images, Key, Prepared, Values
from atelier.request.events import Event
from atelier.request.outpaint import Margins
from atelier.request.resolved import ImageRef
from atelier.vision.canvas import grown, margin
from atelier.vision.masks import Box


@dataclass(frozen=True, slots=True)
class Grow(Stage):
    """Leaves the larger canvas under `out`, its margin filled and masked.

    image: what grows in the first pass; before: where the images of the pass before are, of which that of sample
    `index` grows in a later one.
    """

    image: ImageRef
    margins: Margins
    before: Key[Images] | None
    index: int
    out: Key[Prepared]

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        image = flat(have.image(self.image)) if self.before is None else values.read(self.before)[self.index].image
        values.put(self.out, prepared(image, self.margins))
        yield from ()


def prepared(image: Image.Image, margins: Margins) -> Prepared:
    """An image (RGB) in the middle of its margins."""
    size = margins.around(image.size)
    box = Box(margins.left, margins.top, margins.left + image.width, margins.top + image.height)
    canvas, mask = grown(image, size, box), margin(size, box)
    return Prepared(canvas, mask, canvas, mask, None, kept=box)
