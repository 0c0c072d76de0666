"""Enlarging an image with a network: in tiles, as often as it takes, and to the exact size at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import BadFile, BadInput, NotFinite
from atelier.vision.upscaling import ScaleNet, Size, Tell, quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from atelier.vision.tiles import Span

MOST_PASSES = 3
"""How often a network is run on its own result, as in A1111: docs/upscaling.md."""


@dataclass(frozen=True, slots=True)
class Networked:
    """An upscaler that runs a network. tile: the largest side of a tile in pixels, in place of the network's own; file:
    where it was read from, None for one that was not."""

    name: str
    net: ScaleNet
    tile: int | None = field(default=None)
    file: Path | None = None

    def enlarge(self, image: Image, size: Size, tell: Tell = quiet) -> Image:
        """Runs the network until the image is large enough, then resizes with Lanczos to the size.

        It runs once where the size is to stay, not at all where the image is to become smaller, and one that does not
        enlarge (it removes noise, say) never twice. Raises NotFinite where the network leaves the
        finite numbers, BadFile where those of its file are none, BadInput for tiles that are too small.
        """
        from PIL.Image import Resampling

        counts = [self._count(at) for at in _passes(image.size, size, self.net.scale)]
        for number in range(len(counts)):
            image = self._pass(image, _told(tell, sum(counts[:number]), sum(counts)))
        return image if image.size == size else image.resize(size, Resampling.LANCZOS)

    def _pass(self, image: Image, tell: Tell) -> Image:
        import numpy as np
        from PIL.Image import fromarray

        from atelier.vision.tiles import lay

        pixels, scale = _padded(np.asarray(image), self.net.multiple), self.net.scale
        rows, columns = self._tiles(*image.size)
        canvas = np.zeros((pixels.shape[0] * scale, pixels.shape[1] * scale, 3), np.uint8)
        for number, down in enumerate(rows):
            strip = np.zeros((down.size * scale, canvas.shape[1], 3), np.uint8)
            for done, across in enumerate(columns, start=1):
                piece = self._made(pixels[down.start : down.end, across.start : across.end])
                lay(strip, piece, across, scale, axis=1)
                tell(number * len(columns) + done, len(rows) * len(columns))
            lay(canvas, strip, down, scale, axis=0)
        return fromarray(canvas[: image.height * scale, : image.width * scale])

    def _tiles(self, width: int, height: int) -> tuple[list[Span], list[Span]]:
        """Down and across."""
        from atelier.vision.tiles import spans

        multiple, tile = self.net.multiple, self.tile or self.net.tile
        try:
            rows = spans(height + -height % multiple, tile, multiple=multiple)
            return rows, spans(width + -width % multiple, tile, multiple=multiple)
        except ValueError as error:
            raise BadInput(f"tile {tile}: {error}") from error

    def _count(self, size: Size) -> int:
        rows, columns = self._tiles(*size)
        return len(rows) * len(columns)

    def _made(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, 3) to (h * scale, w * scale, 3), both 0 to 255."""
        import torch

        net = self.net
        x = torch.from_numpy(tile.copy()).permute(2, 0, 1)[None].to(net.device, net.dtype) / 255
        with torch.inference_mode():
            made = net.run(x.contiguous(memory_format=torch.channels_last)).float()
        if not bool(made.isfinite().all()):
            raise self._failed()
        return (made[0].clamp(0, 1) * 255).permute(1, 2, 0).cpu().numpy()

    def _failed(self) -> BadFile | NotFinite:
        """Which of its numbers are to blame, if any."""
        from atelier.checkpoints.soundness import damaged
        from atelier.weights.archive import open_any

        told = f"upscaler {self.name}: it left the finite numbers; set ATELIER_DTYPE=fp32 or use another"
        return (None if self.file is None else damaged([open_any(self.file)])) or NotFinite(told)


def _told(tell: Tell, before: int, total: int) -> Tell:
    """Tells of one pass as part of all."""
    return lambda done, _: tell(before + done, total)


def _passes(size: Size, target: Size, scale: int) -> Iterator[Size]:
    """The sizes at which a network that enlarges by `scale` is run until the target is reached."""
    for number in range(MOST_PASSES):
        is_enough = size[0] >= target[0] and size[1] >= target[1]
        if is_enough and (number > 0 or size != target):
            return
        yield size
        if scale == 1:
            return
        size = (size[0] * scale, size[1] * scale)


def _padded(pixels: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """With the last row and column repeated, so that the sides are multiples."""
    import numpy as np

    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
