"""Two upscalers, their results mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atelier.vision.upscaling import Size, Tell, Upscaler, quiet

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Blended:
    """`first`, with the share `visibility` (0 to 1) of `second`."""

    first: Upscaler
    second: Upscaler
    visibility: float

    @property
    def name(self) -> str:
        return self.first.name

    def enlarge(self, image: Image, size: Size, tell: Tell = quiet) -> Image:
        from PIL.Image import blend

        below = self.first.enlarge(image, size, lambda done, total: tell(done, 2 * total))
        above = self.second.enlarge(image, size, lambda done, total: tell(total + done, 2 * total))
        return blend(below, above, self.visibility)
