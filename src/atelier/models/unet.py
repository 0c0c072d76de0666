"""The denoising U-Net of latent diffusion (Rombach 2022, section 3), as published in Stable Diffusion 1.x, 2.x, XL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.nn.attention import SpatialTransformer
from atelier.nn.conv import Downsample, ResBlock, Upsample
from atelier.nn.embeddings import ConditionEmbedding, guidance_embedding, timestep_embedding
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.nn.seamless import Conv

EPS = 1e-5


@dataclass(frozen=True, slots=True)
class UNetSpec:
    """Everything that shapes a U-Net. The defaults are Stable Diffusion 1.x.

    widths: channels per level; depth: transformer blocks per level (0 = no attention there); heads: attention heads
    per level; context: width of the text states; linear_proj: Linear instead of 1x1 convolution around transformers.
    vector: numbers of the vector condition, the pooled text state and behind it each size as `size_width` sinusoids
    (Podell 2023, arXiv:2307.01952, section 2.2); None for a network without one.
    guidance: numbers that the strength of guidance is embedded in, of a network that was distilled to read it (latent
    consistency models, Luo 2023, arXiv:2310.04378, section 4); None for a network that does not.
    noise_levels: how many levels of noise on what lies beside the latent there are an embedding for, None for none;
    only_cross: of each level, whether its transformers attend to nothing but the text, () where none does (both of
    Stable Diffusion's upscaler).
    hollow: of each level and then of the middle, whether it has the layers around transformers of no blocks, () where
    none has (small ControlNets for XL).
    """

    in_channels: int = 4
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    depth: tuple[int, ...] = (1, 1, 1, 0)
    mid_depth: int = 1
    heads: tuple[int, ...] = (8, 8, 8, 8)
    context: int = 768
    linear_proj: bool = False
    groups: int = 32
    vector: int | None = None
    size_width: int = 256
    guidance: int | None = None
    noise_levels: int | None = None
    only_cross: tuple[bool, ...] = ()
    hollow: tuple[bool, ...] = ()

    @property
    def attends(self) -> tuple[bool, ...]:
        """Of each level and then of the middle, whether it has transformers, be it of no blocks."""
        depths = (*self.depth, self.mid_depth)
        hollow = self.hollow or (False,) * len(depths)
        return tuple(depth > 0 or empty for depth, empty in zip(depths, hollow, strict=True))

    @property
    def time(self) -> int:
        """Width of the time embedding."""
        return 4 * self.widths[0]

    def transformer(self, level: int, depth: int, path: str, *, middle: bool = False) -> SpatialTransformer:
        """What attends to the text behind a residual block of `level`, or in the middle; path: its name for ports."""
        return SpatialTransformer(
            self.widths[level],
            self.heads[level],
            depth,
            self.context,
            linear=self.linear_proj,
            groups=self.groups,
            path=path,
            only_cross=not middle and bool(self.only_cross) and self.only_cross[level],
        )

    def resnet(self, inputs: int, outputs: int) -> ResBlock:
        """A residual block that reads the time."""
        return ResBlock(inputs, outputs, groups=self.groups, eps=EPS, time=self.time)


class DownLevel(nn.Module):
    """A level of the way down: residual blocks, attention, and half the resolution at its end."""

    def __init__(self, spec: UNetSpec, level: int) -> None:
        super().__init__()
        self.level = level
        width = spec.widths[level]
        first = spec.widths[max(level - 1, 0)]
        count, depth = spec.blocks, spec.depth[level]
        self.resnets = nn.ModuleList(spec.resnet(first if j == 0 else width, width) for j in range(count))
        self.attentions = nn.ModuleList(
            spec.transformer(level, depth, f"down.{level}.attentions.{j}")
            for j in range(count if spec.attends[level] else 0)
        )
        last = level == len(spec.widths) - 1
        self.downsample = None if last else Downsample(width, asymmetric=False)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, ports: Ports) -> Iterator[Tensor]:
        """Yields each feature map that becomes a skip connection; the last one goes on to the next level."""
        for j, resnet in enumerate(self.resnets):
            x = resnet(x, time, ports.seamless)
            if len(self.attentions):
                x = self.attentions[j](x, context, ports)
            x = _patched(ports, f"down.{self.level}.{j}", x)
            yield x
        if self.downsample is not None:
            yield self.downsample(x, ports.seamless)


class Middle(nn.Module):
    """The lowest resolution: residual block, attention, residual block; of a network that does not attend there, the
    first block alone."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        width = spec.widths[-1]
        self.resnet1 = spec.resnet(width, width)
        attends = spec.attends[-1]
        attention = spec.transformer(-1, spec.mid_depth, "middle.attention", middle=True) if attends else None
        self.attention, self.resnet2 = attention, spec.resnet(width, width) if attends else None

    def forward(self, x: Tensor, time: Tensor, context: Tensor, ports: Ports) -> Tensor:
        x = self.resnet1(x, time, ports.seamless)
        if self.attention is None or self.resnet2 is None:
            return x
        return self.resnet2(self.attention(x, context, ports), time, ports.seamless)


class UpLevel(nn.Module):
    """Level `index` of the way up, in order of execution; it has one block more than its counterpart below.

    It takes its input from the end of `skips`, so that nobody else holds on to the largest maps of the network.
    """

    def __init__(self, spec: UNetSpec, index: int) -> None:
        super().__init__()
        self.index = index
        level = len(spec.widths) - 1 - index
        width, depth = spec.widths[level], spec.depth[level]
        below = spec.widths[min(level + 1, len(spec.widths) - 1)]
        beside = spec.widths[max(level - 1, 0)]
        count = spec.blocks + 1
        self.resnets = nn.ModuleList(
            spec.resnet((below if j == 0 else width) + (beside if j == count - 1 else width), width)
            for j in range(count)
        )
        self.attentions = nn.ModuleList(
            spec.transformer(level, depth, f"up.{index}.attentions.{j}") for j in range(count if depth else 0)
        )
        self.upsample = None if level == 0 else Upsample(width)

    def forward(self, skips: list[Tensor], time: Tensor, context: Tensor, ports: Ports) -> Tensor:
        x = skips.pop()
        for j, resnet in enumerate(self.resnets):
            x = resnet(_joined(ports, f"up.{self.index}.{j}", x, skips.pop()), time, ports.seamless)
            if len(self.attentions):
                x = self.attentions[j](x, context, ports)
        if self.upsample is not None:
            x = self.upsample(x, (skips[-1].shape[-2], skips[-1].shape[-1]), ports.seamless)
        return x


class UNet(nn.Module):
    """Predicts the training target from a noised latent, a timestep and a conditioning."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        levels = range(len(spec.widths))
        self.time_embedding = ConditionEmbedding(spec.widths[0], spec.time)
        self.guidance = None if spec.guidance is None else nn.Linear(spec.guidance, spec.widths[0], bias=False)
        self.vector_embedding = None if spec.vector is None else ConditionEmbedding(spec.vector, spec.time)
        self.level_embedding = None if spec.noise_levels is None else nn.Embedding(spec.noise_levels, spec.time)
        self.conv_in = Conv(spec.in_channels, spec.widths[0], 3, padding=1)
        self.down = nn.ModuleList(DownLevel(spec, i) for i in levels)
        self.middle = Middle(spec)
        self.up = nn.ModuleList(UpLevel(spec, i) for i in levels)
        self.norm_out = nn.GroupNorm(spec.groups, spec.widths[0], eps=EPS)
        self.conv_out = Conv(spec.widths[0], spec.out_channels, 3, padding=1)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are."""
        return self.conv_in.weight.dtype

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Conditioning, ports: Ports = NOTHING
    ) -> Float[Tensor, "b o h w"]:
        """x: scaled noised latent; t: timesteps in [0, 999], fractions allowed; any h and w.

        The feature patch of a level sees what that level hands on ("down.0", "middle", "up.3"), that of a block on the
        way down what is behind that block ("down.0.1"); the skip patch of a
        block on the way up sees the two halves of its input ("up.3.0"). Raises ValueError for a network with a vector
        condition whose conditioning has no pooled state, or that reads the strength of guidance or a level of noise and
        is not told it.
        """
        if cond.channels is not None:
            x = torch.cat([x, cond.channels], dim=1)
        time = F.silu(self._time(t, cond, x.dtype))
        skips = descended(self.down, self.conv_in(x, seamless=ports.seamless), time, cond.tokens, ports)
        x = _patched(ports, "middle", self.middle(skips[-1], time, cond.tokens, ports))
        if ports.residuals:
            *residuals, last = ports.residuals
            skips = [skip + residual for skip, residual in zip(skips, residuals, strict=True)]
            x = x + last
        skips.append(x)
        del x
        for i, level in enumerate(self.up):
            skips.append(_patched(ports, f"up.{i}", level(skips, time, cond.tokens, ports)))
        return self.conv_out(F.silu(self.norm_out(skips.pop())), seamless=ports.seamless)

    def _time(self, t: Tensor, cond: Conditioning, dtype: torch.dtype) -> Tensor:
        """(B, E), before its activation: the time, and all else that is told beside the text."""
        time = timestep_embedding(t, self.spec.widths[0]).to(dtype)
        if self.guidance is not None:
            time = time + self.guidance(_strength(cond, self.guidance.in_features).to(dtype))
        time = self.time_embedding(time)
        if self.vector_embedding is not None:
            time = time + self.vector_embedding(vector(cond, self.spec.size_width).to(dtype))
        return time if self.level_embedding is None else time + self.level_embedding(_level(cond))


def descended(down: nn.ModuleList, x: Tensor, time: Tensor, context: Tensor, ports: Ports = NOTHING) -> list[Tensor]:
    """x (B, C, h, w), behind the first convolution, and what each level of the way down makes of it: the skip
    connections in order of their making. time: (B, E) behind its activation."""
    skips = [x]
    for i, level in enumerate(down):
        skips.extend(level(skips[-1], time, context, ports))
        skips[-1] = _patched(ports, f"down.{i}", skips[-1])
    return skips


def _strength(cond: Conditioning, width: int) -> Tensor:
    """(B, width): the strength of guidance."""
    if cond.guidance is None:
        raise ValueError("this network needs to be told the strength of guidance")
    return guidance_embedding(cond.guidance, width)


def _level(cond: Conditioning) -> Tensor:
    """(B,): how much noise is on what lies beside the latent."""
    if cond.level is None:
        raise ValueError("this network needs to be told the level of noise on the image beside the latent")
    return cond.level


def vector(cond: Conditioning, width: int) -> Tensor:
    """(B, P + N * width): the pooled state, and behind it each size as time is embedded."""
    if cond.pooled is None:
        raise ValueError("this network needs the pooled state of its text encoder")
    if cond.sizes is None:
        return cond.pooled
    sizes = timestep_embedding(cond.sizes.flatten(), width).reshape(len(cond.sizes), -1)
    return torch.cat([cond.pooled, sizes.to(cond.pooled)], dim=1)


def _patched(ports: Ports, path: str, features: Tensor) -> Tensor:
    patch = ports.features.get(path)
    return features if patch is None else patch(features)


def _joined(ports: Ports, path: str, features: Tensor, skip: Tensor) -> Tensor:
    patch = ports.skips.get(path)
    return torch.cat([features, skip] if patch is None else [*patch(features, skip)], dim=1)
