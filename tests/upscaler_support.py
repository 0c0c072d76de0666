"""Files of upscalers with random weights, in the words of those who publish them, and the networks written out.

Nothing of Atelier is used here: names and formulas are BasicSR's, xinntao's first ESRGAN's, and BSRGAN's.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Esrgan:
    """How an ESRGAN is built. spelling: new, trunk, old; ups: doublings; fold: rows of pixels that become channels."""

    spelling: str = "new"
    width: int = 16
    growth: int = 8
    blocks: int = 2
    ups: int = 2
    fold: int = 1
    plus: bool = False

    def layers(self) -> Iterator[tuple[str, int, int]]:
        """(name, channels in, channels out)."""
        yield self.first, 3 * self.fold**2, self.width
        for n in range(self.blocks):
            for k in (1, 2, 3):
                for i in range(1, 6):
                    made = self.width if i == 5 else self.growth
                    yield self.dense(n, k, i), self.width + (i - 1) * self.growth, made
        for name in (self.trunk, *map(self.up, range(1, self.ups + 1)), self.hr):
            yield name, self.width, self.width
        yield self.last, self.width, 3

    def dense(self, n: int, k: int, i: int) -> str:
        names = {
            "new": f"body.{n}.rdb{k}.conv{i}",
            "trunk": f"RRDB_trunk.{n}.RDB{k}.conv{i}",
            "old": f"model.1.sub.{n}.RDB{k}.conv{i}.0",
        }
        return names[self.spelling]

    def pointwise(self, n: int, k: int) -> str:
        return f"model.1.sub.{n}.RDB{k}.conv1x1"

    def up(self, n: int) -> str:
        return {"new": f"conv_up{n}", "trunk": f"upconv{n}", "old": f"model.{3 * n}"}[self.spelling]

    @property
    def first(self) -> str:
        return "model.0" if self.spelling == "old" else "conv_first"

    @property
    def trunk(self) -> str:
        return {"new": "conv_body", "trunk": "trunk_conv", "old": f"model.1.sub.{self.blocks}"}[self.spelling]

    @property
    def hr(self) -> str:
        old = {0: "model.2", 1: "model.5", 2: "model.8", 3: "model.11"}[self.ups]
        return {"new": "conv_hr", "trunk": "HRconv", "old": old}[self.spelling]

    @property
    def last(self) -> str:
        old = {0: "model.4", 1: "model.7", 2: "model.10", 3: "model.13"}[self.ups]
        return old if self.spelling == "old" else "conv_last"

    def tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, inputs, outputs in self.layers():
            found[f"{name}.weight"] = _random(name, outputs, inputs, 3, 3) * (2 / (9 * inputs)) ** 0.5
            found[f"{name}.bias"] = _random(f"{name} b", outputs) * 0.1
        for n, k in ((n, k) for n in range(self.blocks) for k in (1, 2, 3) if self.plus):
            name = self.pointwise(n, k)
            found[f"{name}.weight"] = _random(name, self.growth, self.width, 1, 1) * 0.1
        found[f"{self.last}.weight"] *= 0.2
        found[f"{self.last}.bias"] += 0.5
        return found

    def run(self, t: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """The network, formula by formula."""
        b, c, h, w = x.shape
        s = self.fold
        folded = x.reshape(b, c, h // s, s, w // s, s).permute(0, 1, 3, 5, 2, 4).reshape(b, c * s * s, h // s, w // s)
        first = _conv(t, self.first, folded)
        body = first
        for n in range(self.blocks):
            inner = body
            for k in (1, 2, 3):
                inner = self._dense(t, n, k, inner)
            body = body + inner * 0.2
        out = first + _conv(t, self.trunk, body)
        for n in range(1, self.ups + 1):
            out = _lrelu(_conv(t, self.up(n), out.repeat_interleave(2, 2).repeat_interleave(2, 3)))
        return _conv(t, self.last, _lrelu(_conv(t, self.hr, out)))

    def _dense(self, t: Mapping[str, Tensor], n: int, k: int, x: Tensor) -> Tensor:
        x1 = _lrelu(_conv(t, self.dense(n, k, 1), x))
        x2 = _lrelu(_conv(t, self.dense(n, k, 2), torch.cat((x, x1), 1)))
        if self.plus:
            x2 = x2 + F.conv2d(x, t[f"{self.pointwise(n, k)}.weight"])
        x3 = _lrelu(_conv(t, self.dense(n, k, 3), torch.cat((x, x1, x2), 1)))
        x4 = _lrelu(_conv(t, self.dense(n, k, 4), torch.cat((x, x1, x2, x3), 1)))
        if self.plus:
            x4 = x4 + x2
        return x + _conv(t, self.dense(n, k, 5), torch.cat((x, x1, x2, x3, x4), 1)) * 0.2


@dataclass(frozen=True)
class Compact:
    """How an SRVGGNetCompact is built. convs: between the first convolution and the last."""

    convs: int = 3
    width: int = 12
    scale: int = 4

    def tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for n in range(self.convs + 1):
            inputs = 3 if n == 0 else self.width
            found[f"body.{2 * n}.weight"] = _random(f"c{n}", self.width, inputs, 3, 3) * (2 / (9 * inputs)) ** 0.5
            found[f"body.{2 * n}.bias"] = _random(f"b{n}", self.width) * 0.1
            found[f"body.{2 * n + 1}.weight"] = _random(f"p{n}", self.width) * 0.3
        last, outputs = f"body.{2 * self.convs + 2}", 3 * self.scale**2
        found[f"{last}.weight"] = _random("last", outputs, self.width, 3, 3) * 0.02
        found[f"{last}.bias"] = _random("last b", outputs) * 0.02
        return found

    def run(self, t: Mapping[str, Tensor], x: Tensor) -> Tensor:
        out = x
        for n in range(self.convs + 1):
            out = _conv(t, f"body.{2 * n}", out)
            slope = t[f"body.{2 * n + 1}.weight"][None, :, None, None]
            out = torch.where(out > 0, out, out * slope)
        out = _conv(t, f"body.{2 * self.convs + 2}", out)
        b, _, h, w = out.shape
        s = self.scale
        shuffled = out.reshape(b, 3, s, s, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, 3, h * s, w * s)
        return shuffled + x.repeat_interleave(s, 2).repeat_interleave(s, 3)


def saved(path: Path, tensors: Mapping[str, Tensor], wrapper: str | None = "params_ema") -> Path:
    """A file as training programs publish it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(tensors) if wrapper is None else {wrapper: dict(tensors)}, path)
    return path


def _conv(t: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], padding=1)


def _lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * 0.2)


def _random(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
