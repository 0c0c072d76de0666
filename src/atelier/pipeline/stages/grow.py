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
from atelier.request.resolved import ImageRef, Size
from atelier.vision.canvas import grown, margin
from atelier.vision.geometry import resized
from atelier.vision.masks import Box


@dataclass(frozen=True, slots=True)
class Grow(Stage):
    """Leaves the larger canvas under `out`, its margin filled and masked.

    image: what grows in the first pass; before: where the images of the pass before are, of which that of sample
    `index` grows in a later one; size: of the canvas: where it is more than image and margins, both are enlarged.
    """

    image: ImageRef
    margins: Margins
    before: Key[Images] | None
    index: int
    size: Size
    out: Key[Prepared]

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        image = flat(have.image(self.image)) if self.before is None else values.read(self.before)[self.index].image
        values.put(self.out, prepared(image, self.margins, self.size))
        yield from ()


def prepared(image: Image.Image, margins: Margins, size: Size) -> Prepared:
    """An image (RGB) in the middle of its margins, on a canvas of `size`."""
    box = _enlarged(margins, image.size, size)
    kept = image if box.size == image.size else resized(image, *box.size, "stretch")
    canvas, mask = grown(kept, size, box), margin(size, box)
    return Prepared(canvas, mask, canvas, mask, None, kept=box)


def _enlarged(margins: Margins, image: tuple[int, int], size: Size) -> Box:
    """Where the image is on the canvas, to the nearest pixel."""
    width, height = margins.around(image)
    across, down = size.width / width, size.height / height
    right, bottom = margins.left + image[0], margins.top + image[1]
    return Box(round(margins.left * across), round(margins.top * down), round(right * across), round(bottom * down))
