"""ControlNet for U-Nets (Zhang et al. 2023, arXiv:2302.05543, section 3.2): a copy of the encoder that reads a hint.

What the copy makes of each skip connection and of the middle goes through a 1x1 convolution that was zero at first, and
is added to what the U-Net makes. A union reads hints of several kinds, and is told which (xinsir's ControlNet++, in
diffusers' `ControlNetUnionModel`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.models.unet import DownLevel, Middle, UNetSpec, descended, vector
from atelier.nn.attention import quick_gelu
from atelier.nn.conv import PointwiseConv
from atelier.nn.embeddings import ConditionEmbedding, timestep_embedding
from atelier.nn.ports import Conditioning, Ports
from atelier.nn.seamless import EDGES, Conv, Seamless

MLP = 4
"""Width between the layers of a union's perceptrons, in widths of the task embedding."""


@dataclass(frozen=True, slots=True)
class UnionSpec:
    """What a union has beside. tasks: kinds of hints; width: of a task's embedding; layers: that mix it in."""

    tasks: int = 6
    width: int = 320
    layers: int = 1


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """Everything that shapes a ControlNet. The defaults are those for Stable Diffusion 1.x.

    unet: the network whose encoder it is a copy of; hint: channels of the layers that read the hint, each but the first
    behind half the resolution; channels: of the hint.
    """

    unet: UNetSpec
    hint: tuple[int, ...] = (16, 32, 96, 256)
    channels: int = 3
    union: UnionSpec | None = None

    @property
    def factor(self) -> int:
        """Pixels of the hint per position of the latent, along a side."""
        return 2 ** (len(self.hint) - 1)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels of each residual but the middle's, in order."""
        last = len(self.unet.widths) - 1
        levels = ((w,) * (self.unet.blocks + (i < last)) for i, w in enumerate(self.unet.widths))
        return (self.unet.widths[0], *(width for level in levels for width in level))


class HintEmbedding(nn.Module):
    """Reads a hint down to the resolution of the latent; 3x3 convolutions with SiLU between them."""

    def __init__(self, spec: ControlSpec) -> None:
        super().__init__()
        convs = [Conv(spec.channels, spec.hint[0], 3, padding=1)]
        for width, following in pairwise(spec.hint):
            convs += [Conv(width, width, 3, padding=1), Conv(width, following, 3, padding=1, stride=2)]
        self.convs = nn.ModuleList([*convs, Conv(spec.hint[-1], spec.unet.widths[0], 3, padding=1)])

    def forward(self, hint: Float[Tensor, "n k H W"]) -> Float[Tensor, "n c h w"]:
        *inner, last = self.convs
        for conv in inner:
            hint = F.silu(conv(hint))
        return last(hint)


class Mixing(nn.Module):
    """A block of a union's transformer. Its attention is over rows of a batch, as published, which have one hint: what
    attends to copies of itself gets its own value. So queries and keys are kept, and make no difference."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, MLP * width), nn.Linear(MLP * width, width)

    def forward(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        x = x + self.out_proj(self.in_proj(self.norm1(x)).chunk(3, dim=-1)[2])
        return x + self.fc2(quick_gelu(self.fc1(self.norm2(x))))


class Union(nn.Module):
    """What tells a union of which kind its hint is: something added to the hint, and something added to the time."""

    def __init__(self, spec: UnionSpec, unet: UNetSpec) -> None:
        super().__init__()
        self.size_width = unet.size_width
        self.tasks = nn.Parameter(torch.zeros(spec.tasks, spec.width))
        self.layers = nn.ModuleList(Mixing(spec.width) for _ in range(spec.layers))
        self.to_channels = nn.Linear(spec.width, unet.widths[0])
        self.embedding = ConditionEmbedding(spec.tasks * unet.size_width, unet.time)

    def mixed(self, hint: Float[Tensor, "n c h w"], task: int) -> Float[Tensor, "n c h w"]:
        """The hint behind its embedding, with what its kind and its mean add to each channel."""
        told = hint.mean(dim=(2, 3)) + self.tasks[task]
        for layer in self.layers:
            told = layer(told)
        return hint + self.to_channels(told)[:, :, None, None]

    def forward(self, task: int, rows: int) -> Float[Tensor, "b e"]:
        """What is added to the embedded time: each kind is told by a 0 or a 1, embedded as time is."""
        flags = F.one_hot(torch.tensor(task, device=self.tasks.device), len(self.tasks))
        told = timestep_embedding(flags, self.size_width).to(self.tasks.dtype).reshape(1, -1)
        return self.embedding(told).expand(rows, -1)


class ControlNet(nn.Module):
    """The encoder of a U-Net, and layers that read a hint and give back residuals."""

    def __init__(self, spec: ControlSpec) -> None:
        super().__init__()
        self.spec, unet = spec, spec.unet
        self.time_embedding = ConditionEmbedding(unet.widths[0], unet.time)
        self.vector_embedding = None if unet.vector is None else ConditionEmbedding(unet.vector, unet.time)
        self.conv_in = Conv(unet.in_channels, unet.widths[0], 3, padding=1)
        self.hint = HintEmbedding(spec)
        self.union = None if spec.union is None else Union(spec.union, unet)
        self.down = nn.ModuleList(DownLevel(unet, i) for i in range(len(unet.widths)))
        self.middle = Middle(unet)
        self.outs = nn.ModuleList(PointwiseConv(width, width) for width in spec.outputs)
        self.out_middle = PointwiseConv(unet.widths[-1], unet.widths[-1])

    def embedded(self, hint: Float[Tensor, "n k H W"], task: int | None = None) -> Float[Tensor, "n c h w"]:
        """A hint as `forward` takes it. task: which kind it is, of a union."""
        embedded = self.hint(hint)
        return embedded if self.union is None or task is None else self.union.mixed(embedded, task)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"],
        cond: Conditioning,
        hint: Float[Tensor, "b d h w"],
        task: int | None = None,
        seamless: Seamless = EDGES,
    ) -> tuple[Tensor, ...]:
        """x, t, cond: as the U-Net gets them, of which a copy of another encoder may see the latent alone; hint, task:
        see `embedded`. The residuals, as in `Ports`, the middle's last."""
        if cond.channels is not None and self.spec.unet.in_channels > x.shape[1]:
            x = torch.cat([x, cond.channels], dim=1)
        ports = Ports(seamless=seamless)
        time = self.time_embedding(timestep_embedding(t, self.spec.unet.widths[0]).to(x.dtype))
        if self.vector_embedding is not None:
            time = time + self.vector_embedding(vector(cond, self.spec.unet.size_width).to(x.dtype))
        if self.union is not None and task is not None:
            time = time + self.union(task, len(x))
        time = F.silu(time)
        x = self.conv_in(x, seamless=seamless) + hint
        skips = descended(self.down, x, time, cond.tokens, ports)
        middle = self.middle(skips[-1], time, cond.tokens, ports)
        return (*(out(skip) for out, skip in zip(self.outs, skips, strict=True)), self.out_middle(middle))
