"""ControlNet for the transformer of Stable Diffusion 3: a copy of its first blocks that reads a hint.

The hint is the latent of an image; its tokens are added to those of the noised one. What comes out of each block goes
through a linear layer that was zero at first (Zhang et al. 2023, arXiv:2302.05543, section 3.1). Those for the large
3.5 read neither text nor a latent of their own: they take the model's tokens, and their blocks have one stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.models.mmdit import TIME, Block, MMDiTSpec, Stream, centred, modulated, whole_patches
from atelier.nn.attention import attend, merge_heads
from atelier.nn.embeddings import ConditionEmbedding, timestep_embedding
from atelier.nn.ports import NOTHING, Conditioning
from atelier.nn.tokens import to_tokens


@dataclass(frozen=True, slots=True)
class TransformerControlSpec:
    """Everything that shapes it. mmdit: as of the transformer, with `depth` the blocks of the copy, none of which is
    the last; channels: of the hint; joint: whether there is a stream of text."""

    mmdit: MMDiTSpec
    channels: int = 16
    joint: bool = True


class ImageBlock(nn.Module):
    """A block of the image alone."""

    def __init__(self, spec: MMDiTSpec) -> None:
        super().__init__()
        self.image = Stream(spec)

    def forward(self, image: Float[Tensor, "b t c"], condition: Float[Tensor, "b 1 c"]) -> Float[Tensor, "b t c"]:
        changes = self.image.modulation(condition).chunk(6, dim=-1)
        query, key, value = self.image.attn(modulated(image, *changes[:2]))
        return self.image(image, merge_heads(attend(query, key, value)), changes)


class TransformerControl(nn.Module):
    """From a noised latent and a hint, residuals for the blocks of an MMDiT."""

    positions: Tensor

    def __init__(self, spec: TransformerControlSpec) -> None:
        super().__init__()
        self.spec, own = spec, spec.mmdit
        self.patch_embedding = nn.Conv2d(own.in_channels, own.width, own.patch, stride=own.patch)
        self.register_buffer("positions", torch.empty(1, own.side**2, own.width))
        self.hint_embedding = nn.Conv2d(spec.channels, own.width, own.patch, stride=own.patch)
        self.time_embedding = ConditionEmbedding(TIME, own.width)
        self.pooled_embedding = ConditionEmbedding(own.pooled, own.width)
        self.context_embedding = nn.Linear(own.context, own.width) if spec.joint else None
        self.blocks = nn.ModuleList(
            Block(own, i, last=False) if spec.joint else ImageBlock(own) for i in range(own.depth)
        )
        self.outs = nn.ModuleList(nn.Linear(own.width, own.width) for _ in range(own.depth))

    def embedded(self, hint: Float[Tensor, "n k h w"]) -> Float[Tensor, "n t c"]:
        """The tokens of a hint, which is a latent as large as the noised one."""
        return to_tokens(self.hint_embedding(whole_patches(hint, self.spec.mmdit.patch)))

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], cond: Conditioning, hint: Float[Tensor, "b t c"]
    ) -> tuple[Tensor, ...]:
        """x, t, cond: as the transformer gets them; hint: see `embedded`. (B, T, C) for each block."""
        if cond.pooled is None:
            raise ValueError("an MMDiT needs a pooled vector")
        patch = self.spec.mmdit.patch
        image = self.patch_embedding(whole_patches(x, patch))
        grid = (image.shape[-2], image.shape[-1])
        image = to_tokens(image) + centred(self.positions, grid, patch).to(image.dtype) + hint
        time = self.time_embedding(timestep_embedding(t, TIME).to(x.dtype))
        condition = F.silu(time + self.pooled_embedding(cond.pooled)).unsqueeze(1)
        text = None if self.context_embedding is None else self.context_embedding(cond.tokens)
        made: list[Tensor] = []
        for block, out in zip(self.blocks, self.outs, strict=True):
            if text is None:
                image = block(image, condition)
            else:
                image, text = block(image, text, condition, NOTHING, grid)
            made.append(out(image))
        return tuple(made)
