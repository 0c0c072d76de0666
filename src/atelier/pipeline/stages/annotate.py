"""Making a hint of an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import annotator_net
from atelier.pipeline.stage import Stage
from atelier.pipeline.stages.prepare import flat
from atelier.pipeline.values import Hint, Key, Prepared, Values
from atelier.request.events import Event
from atelier.request.resolved import AllOver, ImageRef, InNetwork, MaskPlace, ModelRef, ResolvedControl, Size
from atelier.vision import masks
from atelier.vision.annotate import Ready, annotators, ready
from atelier.vision.annotating import Annotator
from atelier.vision.geometry import Resize, resized
from atelier.vision.hints import INPAINT, fitted, numbers, sized_hint
from atelier.vision.masks import Box


@dataclass(frozen=True, slots=True)
class Annotate(Stage):
    """Leaves what a control says at `size`, and where it acts, under `out`.

    whole: the size of the image that is generated, of which `window` is the part that this pass makes, None for all of
    it; source: where the image to start from is: where only a part of that is generated, so it is of the image, which
    is brought to its size before; of_source: whether it is that image that is annotated: then it lies as that does.
    """

    model: ModelRef
    control: ResolvedControl
    size: Size
    out: Key[Hint]
    whole: Size
    window: Box | None = None
    source: Key[Prepared] | None = None
    of_source: bool = False

    def needs(self) -> tuple[Need[object], ...]:
        needs: list[Need[Any]] = [Need(self.model, annotator_net(own.file)) for own in self._file]
        return tuple(needs)

    @property
    def _file(self) -> tuple[InNetwork, ...]:
        file = self.control.annotator_file
        return (file,) if isinstance(file, InNetwork) else ()

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        factor = have.checkpoint(self.model).latent.factor
        prepared = None if self.source is None else values.read(self.source)
        mask = place_mask(self.control.place, self.size, self.whole, self.window, factor, have, prepared)
        hint = self._drawn(flat(have.image(self.control.image)), have, prepared)
        hidden = prepared.mask if prepared is not None and self.control.annotator == INPAINT else None
        values.put(self.out, Hint(_pixels(hint, hidden), mask))
        yield from ()

    def _drawn(self, image: Image.Image, have: Lent, prepared: Prepared | None) -> Image.Image:
        """The hint of the image, as it lies in what is generated."""
        control = self.control
        maker = self._annotator(annotators()[control.annotator], have)
        if prepared is not None and prepared.box is not None and not self.of_source:
            bring = fitted if maker.spec.frame == "own" else resized
            image = bring(image, *prepared.whole.size, control.resize)
        image, size, how = lying(image, self.whole, self.size, control.resize, prepared, of_source=self.of_source)
        hint = sized_hint(maker, image, size, how, control.resolution, dict(control.options))
        return hint if self.window is None or size == self.size else hint.crop(self.window)

    def _annotator(self, spec: Annotator, have: Lent) -> Ready:
        file = self.control.annotator_file
        if isinstance(file, InNetwork):
            return have.take(Need(self.model, annotator_net(file.file)))
        return ready(spec, lambda _: None, have.device)


class Lying(NamedTuple):
    """An image, or a part of it, and how it comes to which size."""

    image: Image.Image
    size: Size
    how: Resize


def lying(
    image: Image.Image, whole: Size, size: Size, how: Resize, prepared: Prepared | None, *, of_source: bool
) -> Lying:
    """How an image lies in one that is generated, `whole`, of which a pass makes `size`. prepared: the image to start
    from; of_source: whether it is that: then it lies as that does. Where only a part of that is generated, so it is of
    any image of its size."""
    if prepared is not None and of_source:
        image, whole, how = prepared.whole, size, "stretch"
    if prepared is not None and prepared.box is not None and image.size == prepared.whole.size:
        return Lying(image.crop(prepared.box), size, "fill")
    return Lying(image, whole, how)


def place_mask(
    place: AllOver | MaskPlace,
    size: Size,
    whole: Size,
    window: Box | None,
    factor: int,
    have: Lent,
    prepared: Prepared | None,
) -> Tensor | None:
    """(1, 1, h, w) in positions of the latent, 0 to 1; None for everywhere. prepared: the image to start from: where
    only a part of that is generated, so it is of a mask of its size."""
    if isinstance(place, AllOver):
        return None
    mask = _read_mask(place.image, have)
    if prepared is not None and prepared.box is not None and mask.size == prepared.whole.size:
        seen = resized(mask.crop(prepared.box), *size, "fill")
    else:
        mask = mask.resize(whole, Image.Resampling.BOX)
        seen = mask if window is None else mask.crop(window)
    small = seen.resize((size.width // factor, size.height // factor), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None]


def _read_mask(image: ImageRef, have: Lent) -> Image.Image:
    return masks.mask_of(have.image(image))


def _pixels(image: Image.Image, hidden: Image.Image | None) -> Tensor:
    """(1, 3, H, W) in [0, 1]; -1 where `hidden` is white."""
    return torch.from_numpy(numbers(image, hidden)).permute(2, 0, 1)[None].contiguous()
