"""The autoencoder on images that are too large for its feature maps to be held whole: docs/adr/0027.

Maps are made strip by strip: rows over the full width, with as many rows around them as the convolutions see. Group
norms need the whole map, so their moments are gathered in a pass of their own before the strips are made: nothing is
estimated, and no strip differs from what it is in the whole. Between residual blocks a map is kept in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.models.vae import AutoencoderKL, DecoderLevel, EncoderLevel, Gaussian, VaeSpec
from atelier.nn.conv import Downsample, ResBlock, Upsample
from atelier.nn.norm import Gathered, GroupNorm, Moments
from atelier.nn.seamless import EDGES, Conv, Seamless

STRIP_BYTES = 2**26
"""Of the widest map of a strip: about five of that size are there at once."""
LEAST_ROWS = 8
"""Of a strip: with fewer, most of the work would go into the rows around it."""
BETWEEN_BYTES = 2**30
"""What is between the halves of a block is kept where it has fewer bytes, and else computed twice: at 2048x2048 the
last level's would be the third map of this size."""
HALF_RANGE = 2.0**11
"""What the largest value of a strip is brought to in half precision, whose own largest is 2^16."""

Make = Callable[[int, int], Tensor]
"""(first row, the row after the last) of a map -> those rows, (B, C, rows, W)."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """Rows of a map from `start` on: `half` times `scale` is what they are."""

    start: int
    half: Tensor
    scale: Tensor

    @property
    def end(self) -> int:
        return self.start + self.half.shape[2]


@dataclass(slots=True)
class _Map:
    """A feature map of which rows are added from the top on. wraps: its bottom goes on at its top."""

    height: int
    dtype: torch.dtype
    wraps: bool
    strips: list[_Kept] = field(default_factory=list[_Kept])

    def add(self, rows: Tensor) -> None:
        start = self.strips[-1].end if self.strips else 0
        if self.dtype != torch.float32:
            self.strips.append(_Kept(start, rows, torch.ones((), dtype=self.dtype)))
            return
        scale = (rows.abs().max() / HALF_RANGE).clamp(min=torch.finfo(torch.float32).tiny)
        self.strips.append(_Kept(start, (rows / scale).half(), scale))

    def rows(self, start: int, end: int) -> Tensor:
        """What lies beyond an edge where the map wraps is at the opposite one; elsewhere there is nothing."""
        if start < 0:
            return torch.cat([self.rows(start + self.height, self.height), self.rows(0, end)], dim=2)
        if end > self.height:
            return torch.cat([self.rows(start, self.height), self.rows(0, end - self.height)], dim=2)
        found = [
            kept.half[:, :, max(start - kept.start, 0) : end - kept.start].to(self.dtype)
            * kept.scale.to(kept.half.device)
            for kept in self.strips
            if kept.start < end and kept.end > start
        ]
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)

    def around(self, start: int, end: int, more: int) -> tuple[int, int]:
        """A window with so many rows more at either side, as far as the map reaches."""
        if self.wraps:
            return start - more, end + more
        return max(start - more, 0), min(end + more, self.height)

    def forget(self, row: int) -> None:
        """Lets go of what lies above a row, unless it is seen again from the bottom."""
        if not self.wraps:
            self.strips = [kept for kept in self.strips if kept.end > row]

    @property
    def width(self) -> int:
        return self.strips[0].half.shape[3]

    @property
    def device(self) -> torch.device:
        return self.strips[0].half.device


def whole_bytes(spec: VaeSpec, sides: tuple[int, int], dtype: torch.dtype) -> int:
    """About what decoding an image of these sides needs at its peak in one piece, beside the weights: three maps of the
    last but one level's width, at the size of the image (measured: docs/adr/0027)."""
    widest = spec.widths[min(1, len(spec.widths) - 1)]
    return 3 * widest * sides[0] * sides[1] * dtype.itemsize


def decode_in_strips(vae: AutoencoderKL, latent: Tensor, seamless: Seamless = EDGES, most: int = STRIP_BYTES) -> Tensor:
    """The same as `vae.decode`. most: bytes of the widest map of a strip."""
    decoder = vae.decoder
    x = latent if vae.post_quant_conv is None else vae.post_quant_conv(latent)
    x = decoder.middle(decoder.conv_in(x, seamless=seamless), seamless)
    map_, before = _whole(x, seamless), None
    for level in cast("Iterable[DecoderLevel]", decoder.up):
        for resnet in cast("Iterable[ResBlock]", level.resnets):
            map_, before = _blocked(map_, before, resnet, seamless, most), None
        before = level.upsample
    return _last(map_, decoder.norm_out, decoder.conv_out, seamless, most)


def encode_in_strips(
    vae: AutoencoderKL, image: Tensor, seamless: Seamless = EDGES, most: int = STRIP_BYTES
) -> Gaussian:
    """The same as `vae.encode`. most: bytes of the widest map of a strip."""
    encoder = vae.encoder
    map_ = _first(image, encoder.conv_in, seamless, most)
    for level in cast("Iterable[EncoderLevel]", encoder.down):
        for resnet in cast("Iterable[ResBlock]", level.resnets):
            map_ = _blocked(map_, None, resnet, seamless, most)
        if level.downsample is not None:
            map_ = _halved(map_, level.downsample, seamless, most)
    return vae.gaussian(encoder.finished(map_.rows(0, map_.height), seamless))


def _whole(x: Tensor, seamless: Seamless) -> _Map:
    made = _Map(x.shape[2], x.dtype, seamless.y)
    made.add(x)
    return made


def _spans(height: int, row_bytes: int, most: int) -> Iterator[tuple[int, int]]:
    """(first row, the row after the last) of each strip."""
    rows = max(LEAST_ROWS, most // row_bytes)
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


def _across(seamless: Seamless) -> Seamless:
    """What a strip is told: its rows are given with what lies beyond them."""
    return Seamless(x=seamless.x)


def _first(image: Tensor, conv: Conv, seamless: Seamless, most: int) -> _Map:
    height, width = image.shape[2:]
    source, made = _Map(height, image.dtype, seamless.y), _Map(height, image.dtype, seamless.y)
    source.strips.append(_Kept(0, image, image.new_ones(())))
    for start, end in _spans(height, _row(conv.out_channels, width, source), most):
        low, high = source.around(start, end, 1)
        rows = conv(source.rows(low, high), seamless=_across(seamless))
        made.add(rows[:, :, start - low : end - low])
    return made


def _halved(source: _Map, down: Downsample, seamless: Seamless, most: int) -> _Map:
    """Of two rows one is made, which sees the one after them, too."""
    made = _Map(source.height // 2, source.dtype, seamless.y)
    for start, end in _spans(made.height, 2 * _row(down.conv.in_channels, source.width, source), most):
        last = 2 * end + 2 if source.wraps else min(2 * end + 2, source.height)
        made.add(down(source.rows(2 * start, last), _across(seamless))[:, :, : end - start])
        source.forget(2 * end)
    return made


def _blocked(source: _Map, before: Upsample | None, block: ResBlock, seamless: Seamless, most: int) -> _Map:
    """A residual block, with what doubles the resolution before it if anything does."""
    across, scale = _across(seamless), 1 if before is None else 2
    made = _Map(source.height * scale, source.dtype, seamless.y)
    widest = max(block.conv1.in_channels, block.conv1.out_channels)
    spans = list(_spans(made.height, _row(widest, source.width * scale, source), most))
    if len(spans) == 1:
        x = source.rows(0, source.height)
        made.add(block(x if before is None else before(x, seamless=seamless), seamless=seamless))
        return made
    read = source.rows if before is None else _doubled(source, before, across)
    first = _gathered(block.norm1, spans, read)

    def hidden(start: int, end: int) -> Tensor:
        """Between the two halves of the block."""
        low, high = made.around(start, end, 1)
        rows = block.conv1(F.silu(block.norm1(read(low, high), first)), seamless=across)
        return rows[:, :, start - low : end - low]

    between = _between(made, block, source.width * scale)
    second = _gathered(block.norm2, spans, hidden, between)
    inner = hidden if between is None else between.rows
    for start, end in spans:
        low, high = made.around(start, end, 1)
        rows = block.conv2(F.silu(block.norm2(inner(low, high), second)), seamless=across)
        x = read(start, end)
        made.add((x if block.shortcut is None else block.shortcut(x)) + rows[:, :, start - low : end - low])
        source.forget((end - 2) // scale - 1)
        if between is not None:
            between.forget(end - 1)
    return made


def _between(made: _Map, block: ResBlock, width: int) -> _Map | None:
    """Where to keep what is between the halves of a block, if it is not too much."""
    kept = 2 * block.conv1.out_channels * made.height * width
    return _Map(made.height, made.dtype, made.wraps) if kept < BETWEEN_BYTES else None


def _doubled(source: _Map, up: Upsample, across: Seamless) -> Make:
    """Reads the map at twice its size."""

    def read(start: int, end: int) -> Tensor:
        low, high = source.around(start // 2, -(-end // 2), 1)
        return up.in_phases(source.rows(low, high), across)[:, :, start - 2 * low : end - 2 * low]

    return read


def _gathered(norm: GroupNorm, spans: list[tuple[int, int]], read: Make, keep: _Map | None = None) -> Moments:
    """keep: where what was read is kept, if anywhere."""
    found = Gathered(norm.num_groups)
    for start, end in spans:
        rows = read(start, end)
        found.add(rows)
        if keep is not None:
            keep.add(rows)
    return found.moments()


def _last(source: _Map, norm: GroupNorm, conv: Conv, seamless: Seamless, most: int) -> Tensor:
    spans = list(_spans(source.height, _row(conv.in_channels, source.width, source), most))
    moments = _gathered(norm, spans, source.rows)
    made: list[Tensor] = []
    for start, end in spans:
        low, high = source.around(start, end, 1)
        rows = conv(F.silu(norm(source.rows(low, high), moments)), seamless=_across(seamless))
        made.append(rows[:, :, start - low : end - low])
        source.forget(end - 1)
    return torch.cat(made, dim=2)


def _row(channels: int, width: int, source: _Map) -> int:
    """Bytes of one row."""
    return channels * width * source.dtype.itemsize
