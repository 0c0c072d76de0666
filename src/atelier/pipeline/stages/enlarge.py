"""Making what a first pass made larger, for a second one to start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, gcd
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image, fromarray
from torch import Tensor

from atelier.families.facts import LatentFormat
from atelier.nn.seamless import EDGES, Seamless
from atelier.pipeline.decoding import decode, encode_image
from atelier.pipeline.lent import Lent, Need
from atelier.pipeline.resources import AUTOENCODER, UPSCALER
from atelier.pipeline.sample import Sample
from atelier.pipeline.stage import Stage
from atelier.pipeline.values import Key, Known, Latents, Values
from atelier.request.events import Event
from atelier.request.resolved import InFile, ModelRef, NoFile, Size, VaeStrips
from atelier.vision.catalogue import filters
from atelier.vision.upscaling import Upscaler


@dataclass(frozen=True, slots=True)
class LatentMode:
    """How torch interpolates a latent."""

    mode: Literal["bilinear", "bicubic", "nearest", "nearest-exact"]
    antialias: bool = False


LATENT_MODES: Mapping[str, LatentMode] = MappingProxyType(
    {
        "Latent": LatentMode("bilinear"),
        "Latent (antialiased)": LatentMode("bilinear", antialias=True),
        "Latent (bicubic)": LatentMode("bicubic"),
        "Latent (bicubic antialiased)": LatentMode("bicubic", antialias=True),
        "Latent (nearest)": LatentMode("nearest"),
        "Latent (nearest-exact)": LatentMode("nearest-exact"),
    }
)
"""By A1111's names. Any other name is that of an upscaler of images."""
MARGIN = 16
"""Pixels beyond an edge that decide what filters make of it, and nearly all of what networks do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlarge(Stage):
    """Takes the latents of `source` and leaves one batch of larger ones under `out`, in the order of `samples`.

    scaled: what is enlarged to; size: what is left of it when the excess is cut off evenly; upscaler: a latent mode, or
    the name of an upscaler of images, for which latents are decoded and encoded again; file: where that one is, if it
    is not built in; into: the model that goes on from there; strips: whether the autoencoder runs strip by strip;
    edges: where those of the image meet.
    """

    model: ModelRef
    into: ModelRef
    samples: tuple[Sample, ...]
    scaled: Size
    size: Size
    upscaler: str
    file: NoFile | InFile = field(default_factory=NoFile)
    source: Key[Latents]
    out: Key[Known]
    strips: VaeStrips = "auto"
    edges: Seamless = EDGES

    def needs(self) -> tuple[Need[object], ...]:
        models = () if self.upscaler in LATENT_MODES else dict.fromkeys((self.model, self.into))
        needs: list[Need[Any]] = [Need(model, AUTOENCODER) for model in models]
        if isinstance(self.file, InFile):
            needs.append(Need(self.file.file, UPSCALER))
        return tuple(needs)

    def perform(self, have: Lent, values: Values) -> Iterator[Event]:
        latents = values.take(self.source)
        rows = [self._enlarged(latents[sample.index], have) for sample in self.samples]
        latent = cut(torch.cat(rows), _positions(self.size, have.checkpoint(self.into).latent))
        values.put(self.out, Known(latent, latent.new_ones(1, 1, *latent.shape[2:])))
        yield from ()

    def _enlarged(self, latent: Tensor, have: Lent) -> Tensor:
        """One latent (C, h, w) at `scaled`: (1, C, H, W)."""
        how, format_ = LATENT_MODES.get(self.upscaler), have.checkpoint(self.model).latent
        if how is not None:
            return F.interpolate(latent[None], _positions(self.scaled, format_), mode=how.mode, antialias=how.antialias)
        vae, again = (have.take(Need(model, AUTOENCODER)) for model in (self.model, self.into))
        image = decode(latent, vae, format_, self.edges, self.strips)
        image = enlarged(image, self.scaled, self.edges, self._upscaler(have))
        return encode_image(image, again, have.checkpoint(self.into).latent, self.edges, self.strips).to(latent)

    def _upscaler(self, have: Lent) -> Upscaler:
        return have.take(Need(self.file.file, UPSCALER)) if isinstance(self.file, InFile) else filters()[self.upscaler]


def enlarged(image: Image, size: Size, edges: Seamless, upscaler: Upscaler) -> Image:
    """The image at that size. Where edges meet, the upscaler sees beyond them what is at the opposite one."""
    wide, high = image.size
    across = _beyond(wide, size.width) if edges.x else (0, 0)
    down = _beyond(high, size.height) if edges.y else (0, 0)
    if edges == EDGES:
        return upscaler.enlarge(image, size)
    whole = np.pad(np.asarray(image), ((down[0],) * 2, (across[0],) * 2, (0, 0)), mode="wrap")
    target = size.width + 2 * across[1], size.height + 2 * down[1]
    made = upscaler.enlarge(fromarray(whole), target)
    return made.crop((across[1], down[1], across[1] + size.width, down[1] + size.height))


def _beyond(side: int, target: int) -> tuple[int, int]:
    """(pixels beyond an edge, what they become), at least `MARGIN` where the side has them: whole numbers of the ratio,
    so that every pixel stays in its place."""
    common = gcd(side, target)
    step, become = side // common, target // common
    count = min(ceil(MARGIN / step), max(side // step, 1))
    return count * step, count * become


def cut(latent: Tensor, sides: tuple[int, int]) -> Tensor:
    """The middle (B, C, *sides) of a latent (B, C, H, W); of an odd excess the larger half goes at the end."""
    top, left = ((have - want) // 2 for have, want in zip(latent.shape[2:], sides, strict=True))
    return latent[:, :, top : top + sides[0], left : left + sides[1]]


def _positions(size: Size, format_: LatentFormat) -> tuple[int, int]:
    """(rows, columns) of the latent of an image."""
    return size.height // format_.factor, size.width // format_.factor
