"""The multimodal diffusion transformer of Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206, section 4).

Image and text are two streams of tokens with weights of their own, which meet in one attention in every block. What
3.5 adds to it: a norm of queries and keys (section 5.3.2), and in its medium size a second attention of the image alone
in the first blocks (MMDiT-X).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.errors import BadInput
from atelier.nn.attention import attend, merge_heads, split_heads
from atelier.nn.embeddings import ConditionEmbedding, timestep_embedding
from atelier.nn.ports import NOTHING, AttentionLayer, Conditioning, Ports
from atelier.nn.tokens import to_map, to_tokens

EPS = 1e-6
TIME = 256
"""Sinusoids of the timestep."""
MLP = 4
"""Width between the layers of a perceptron, in widths of the stream."""


@dataclass(frozen=True, slots=True)
class MMDiTSpec:
    """Everything that shapes an MMDiT. The defaults are Stable Diffusion 3 medium.

    patch: positions of the latent along a side of one token; context: width of the text states; pooled: of the vector
    condition; side: tokens along a side of the table of positions; qk_norm: whether queries and keys are normed; dual:
    the blocks with a second attention, of the image alone.
    """

    in_channels: int = 16
    out_channels: int = 16
    width: int = 1536
    depth: int = 24
    heads: int = 24
    patch: int = 2
    context: int = 4096
    pooled: int = 2048
    side: int = 192
    qk_norm: bool = False
    dual: tuple[int, ...] = ()

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads


class Projected(NamedTuple):
    """Queries, keys and values, (B, heads, T, D) each."""

    query: Tensor
    key: Tensor
    value: Tensor


class Projections(nn.Module):
    """What one stream brings to an attention, and the layer behind it; `out` is False where nothing comes back."""

    def __init__(self, spec: MMDiTSpec, *, out: bool = True) -> None:
        super().__init__()
        self.heads = spec.heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(spec.width, spec.width) for _ in range(3))
        self.norm_q = nn.RMSNorm(spec.head_width, eps=EPS) if spec.qk_norm else None
        self.norm_k = nn.RMSNorm(spec.head_width, eps=EPS) if spec.qk_norm else None
        self.to_out = nn.Linear(spec.width, spec.width) if out else None

    def forward(self, x: Float[Tensor, "b t c"]) -> Projected:
        query, key, value = (split_heads(f(x), self.heads) for f in (self.to_q, self.to_k, self.to_v))
        if self.norm_q is not None and self.norm_k is not None:
            query, key = self.norm_q(query), self.norm_k(key)
        return Projected(query, key, value)


class Mlp(nn.Module):
    """Two linear layers with GELU, as its tanh approximates it, between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP * width)
        self.fc2 = nn.Linear(MLP * width, width)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Stream(nn.Module):
    """One stream's own weights in a block. A text stream that is `last` gives its keys and values and ends there.

    modulation: from the condition, shift, scale and gate for each of what is done to the stream (Peebles and Xie 2022,
    arXiv:2212.09748, section 3.2, adaLN-Zero), without gate where it ends.
    """

    def __init__(self, spec: MMDiTSpec, *, last: bool = False, dual: bool = False) -> None:
        super().__init__()
        count = 2 if last else 9 if dual else 6
        self.modulation = nn.Linear(spec.width, count * spec.width)
        self.attn = Projections(spec, out=not last)
        self.attn2 = Projections(spec) if dual else None
        self.mlp = None if last else Mlp(spec.width)

    def forward(self, x: Tensor, attended: Tensor, changes: tuple[Tensor, ...]) -> Tensor:
        """x with what it attended to and the perceptron's part; changes: from `modulation`."""
        if self.attn.to_out is None or self.mlp is None:
            return x
        shift, scale, gate = changes[3:6]
        x = x + changes[2] * self.attn.to_out(attended)
        return x + gate * self.mlp(modulated(x, shift, scale))


class Block(nn.Module):
    """Both streams, joined in one attention; in the `last` one that of the text ends."""

    def __init__(self, spec: MMDiTSpec, index: int, *, last: bool) -> None:
        super().__init__()
        self.path, self.heads = f"blocks.{index}", spec.heads
        self.image = Stream(spec, dual=index in spec.dual)
        self.text = Stream(spec, last=last)

    def forward(
        self, image: Tensor, text: Tensor, condition: Tensor, ports: Ports, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """image (B, T, C), text (B, S, C), condition (B, 1, C) behind its activation -> both, changed."""
        ours = self.image.modulation(condition).chunk(9 if self.image.attn2 is not None else 6, dim=-1)
        theirs = self.text.modulation(condition).chunk(2 if self.text.mlp is None else 6, dim=-1)
        seen, read = modulated(image, *ours[:2]), modulated(text, *theirs[:2])
        attended = self._joint(seen, read, ports, grid)
        beside = self._alone(image, ours, ports, grid)
        made = self.text(text, attended[:, image.shape[1] :], theirs)
        image = image if beside is None else image + beside
        return self.image(image, attended[:, : image.shape[1]], ours), made

    def _joint(self, image: Tensor, text: Tensor, ports: Ports, grid: tuple[int, int]) -> Tensor:
        """(B, T + S, C). The port sees the queries of the image, and the keys and values of both, the image's first."""
        here, there = self.image.attn(image), self.text.attn(text)
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(here, there, strict=True))
        attended = merge_heads(attend(query, key, value))
        patch = ports.attention.get(f"{self.path}.attn")
        if patch is None:
            return attended
        layer, own = AttentionLayer(f"{self.path}.attn", self.heads, is_cross=False, grid=grid), image.shape[1]
        return torch.cat([patch(layer, image, here.query, key, value, attended[:, :own]), attended[:, own:]], dim=1)

    def _alone(self, image: Tensor, changes: tuple[Tensor, ...], ports: Ports, grid: tuple[int, int]) -> Tensor | None:
        """What the second attention adds to the image; None where the block has none."""
        attn = self.image.attn2
        if attn is None or attn.to_out is None:
            return None
        shift, scale, gate = changes[6:9]
        x = modulated(image, shift, scale)
        query, key, value = attn(x)
        attended = merge_heads(attend(query, key, value))
        patch = ports.attention.get(f"{self.path}.attn2")
        if patch is not None:
            layer = AttentionLayer(f"{self.path}.attn2", self.heads, is_cross=False, grid=grid)
            attended = patch(layer, x, query, key, value, attended)
        return gate * attn.to_out(attended)


class MMDiT(nn.Module):
    """Predicts noise less clean latent from a noised latent, its level and a conditioning with a pooled vector."""

    positions: Tensor

    def __init__(self, spec: MMDiTSpec) -> None:
        super().__init__()
        self.spec = spec
        self.patch_embedding = nn.Conv2d(spec.in_channels, spec.width, spec.patch, stride=spec.patch)
        self.register_buffer("positions", position_table(spec.side, spec.width))
        self.time_embedding = ConditionEmbedding(TIME, spec.width)
        self.pooled_embedding = ConditionEmbedding(spec.pooled, spec.width)
        self.context_embedding = nn.Linear(spec.context, spec.width)
        self.blocks = nn.ModuleList(Block(spec, i, last=i == spec.depth - 1) for i in range(spec.depth))
        self.final_modulation = nn.Linear(spec.width, 2 * spec.width)
        self.final = nn.Linear(spec.width, spec.patch**2 * spec.out_channels)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.final.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are."""
        return self.final.weight.dtype

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Conditioning, ports: Ports = NOTHING
    ) -> Float[Tensor, "b o h w"]:
        """x: noised latent, any h and w up to the table of positions; t: 1000 times the level; cond.pooled is needed.

        Blocks whose path ("blocks.7") is among `ports.omitted` are left out. Residuals, (B, T, C) each, are added
        behind blocks, each behind as many as there are blocks for one of them (ControlNet). Raises BadInput for a
        latent that is larger than the table.
        """
        if cond.pooled is None:
            raise ValueError("an MMDiT needs a pooled vector")
        if cond.channels is not None:
            x = torch.cat([x, cond.channels], dim=1)
        height, width = x.shape[-2:]
        image = self.patch_embedding(whole_patches(x, self.spec.patch))
        grid = (image.shape[-2], image.shape[-1])
        image = to_tokens(image) + centred(self.positions, grid, self.spec.patch).to(image.dtype)
        time = self.time_embedding(timestep_embedding(t, TIME).to(x.dtype))
        condition = F.silu(time + self.pooled_embedding(cond.pooled)).unsqueeze(1)
        image = self._through(image, self.context_embedding(cond.tokens), condition, ports, grid)
        shift, scale = self.final_modulation(condition).chunk(2, dim=-1)
        out = _unpatched(self.final(modulated(image, shift, scale)), grid, self.spec.patch)
        return out[..., :height, :width]

    def _through(self, image: Tensor, text: Tensor, condition: Tensor, ports: Ports, grid: tuple[int, int]) -> Tensor:
        count, depth = len(ports.residuals), len(self.blocks)
        for index, block in enumerate(self.blocks):
            if f"blocks.{index}" not in ports.omitted:
                image, text = block(image, text, condition, ports, grid)
            patch = ports.features.get(f"blocks.{index}")
            image = image if patch is None else to_tokens(patch(to_map(image, grid)))
            if count and index < depth - 1:
                image = image + ports.residuals[index * count // depth]
        return image


def centred(positions: Float[Tensor, "1 n c"], grid: tuple[int, int], patch: int) -> Float[Tensor, "1 t c"]:
    """Those of a grid in the middle of a square table (section 5.3.2). Raises BadInput for a grid beyond it."""
    side = isqrt(positions.shape[1])
    if max(grid) > side:
        raise BadInput(
            f"the latent has {grid[1] * patch}x{grid[0] * patch} positions, and this model knows {side * patch} along "
            "a side: choose a smaller width and height"
        )
    top, left = (side - grid[0]) // 2, (side - grid[1]) // 2
    table = positions.reshape(1, side, side, -1)
    return table[:, top : top + grid[0], left : left + grid[1]].flatten(1, 2)


def modulated(x: Float[Tensor, "b t c"], shift: Tensor, scale: Tensor) -> Float[Tensor, "b t c"]:
    """Normed, scaled and shifted: Peebles and Xie 2022, section 3.2."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift


def position_table(side: int, width: int, base: int = 64) -> Float[Tensor, "1 n c"]:
    """Sinusoids of the column, then of the row, of each place in a square of `side` tokens, row by row.

    The whole square is `base` wide, whatever its number of tokens. Published files carry their table; this one is for
    networks that are trained from nothing.
    """
    steps = torch.arange(side, dtype=torch.float64) * (base / side)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    quarter = width // 4
    rates = 10_000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = [places.flatten()[:, None] * rates for places in (columns, rows)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1).float()[None]


def whole_patches(x: Tensor, patch: int) -> Tensor:
    """x with the rows and columns that are missing for whole patches, as its last ones are."""
    down, right = -x.shape[-2] % patch, -x.shape[-1] % patch
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def _unpatched(x: Float[Tensor, "b t k"], grid: tuple[int, int], patch: int) -> Float[Tensor, "b o h w"]:
    """Tokens of patch x patch positions, channels last in each, as a map."""
    height, width = grid
    pieces = x.reshape(len(x), height, width, patch, patch, -1)
    return pieces.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, height * patch, width * patch)
