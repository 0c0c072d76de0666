"""CLIP's text and vision towers (Radford 2021, section 2.4), as in OpenAI's and open_clip's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from atelier.nn.attention import Attention, quick_gelu

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the RGB values, 0 to 1, that CLIP was trained on."""
Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True, slots=True)
class TextSpec:
    """Everything that shapes a text tower. The defaults are CLIP-L/14, the text encoder of Stable Diffusion 1.x.

    eos: the id whose first position is pooled; projection: width of the shared space, None without projection; normed:
    whether there is a norm behind the last layer.
    """

    vocab: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    positions: int = 77
    act: Activation = "quick_gelu"
    projection: int | None = None
    eos: int = 49407
    normed: bool = True


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """Everything that shapes a vision tower. The defaults are CLIP-L/14's."""

    image: int = 224
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp: int = 4096
    act: Activation = "quick_gelu"
    projection: int | None = 768


@dataclass(frozen=True, slots=True)
class JointSpec:
    """width: of the text states; joint: of the space that both towers are projected into."""

    width: int = 768
    joint: int = 768


@dataclass(frozen=True, slots=True)
class TextStates:
    """hidden: the residual stream before each layer and after the last, no final norm (clip skip n takes hidden[-n]
    and applies the final norm); last: (B, T, W) after the final norm; pooled: at the end-of-text token, projected if
    the tower has a projection."""

    hidden: tuple[Tensor, ...]
    last: Tensor
    pooled: Tensor


@dataclass(frozen=True, slots=True)
class VisionStates:
    """hidden: as in TextStates; pooled: class token after the post norm; embedding: its projection, if there is one."""

    hidden: tuple[Tensor, ...]
    pooled: Tensor
    embedding: Tensor | None


def normalised(image: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
    """RGB in [0, 1] as the vision tower reads it."""
    mean, deviation = (torch.tensor(rgb, device=image.device).reshape(3, 1, 1) for rgb in (MEAN, DEVIATION))
    return (image - mean) / deviation


class Mlp(nn.Module):
    """Two linear layers with an activation between them, position by position."""

    def __init__(self, width: int, inner: int, act: Activation) -> None:
        super().__init__()
        self.quick = act == "quick_gelu"
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return self.fc2(quick_gelu(hidden) if self.quick else F.gelu(hidden))


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, mlp: int, act: Activation) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, bias=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp, act)

    def forward(self, x: Tensor, *, causal: bool) -> Tensor:
        x = x + self.attn(self.norm1(x), causal=causal)
        return x + self.mlp(self.norm2(x))


def _run(layers: nn.ModuleList, x: Tensor, *, causal: bool) -> tuple[Tensor, ...]:
    hidden = [x]
    for layer in layers:
        hidden.append(layer(hidden[-1], causal=causal))
    return tuple(hidden)


class ClipText(nn.Module):
    """Token ids to text states; causal, pre-norm."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.spec = spec
        self.token_embedding = nn.Embedding(spec.vocab, spec.width)
        self.position_embedding = nn.Embedding(spec.positions, spec.width)
        self.layers = nn.ModuleList(Layer(spec.width, spec.heads, spec.mlp, spec.act) for _ in range(spec.layers))
        self.final_norm = nn.LayerNorm(spec.width) if spec.normed else nn.Identity()
        self.projection = None if spec.projection is None else nn.Linear(spec.width, spec.projection, bias=False)

    def forward(self, tokens: Int[Tensor, "b t"]) -> TextStates:
        """tokens: ids, at most spec.positions of them. Rows without an end-of-text token pool their last position."""
        return self.encode(self.token_embedding(tokens), tokens)

    def encode(self, embedded: Float[Tensor, "b t w"], tokens: Int[Tensor, "b t"]) -> TextStates:
        """The tower above the token embeddings, which textual inversion replaces."""
        positions = self.position_embedding(torch.arange(tokens.shape[1], device=tokens.device))
        hidden = _run(self.layers, embedded + positions, causal=True)
        last = self.final_norm(hidden[-1])
        ends = tokens == self.spec.eos
        end = torch.where(ends.any(1), ends.int().argmax(1), tokens.shape[1] - 1)
        pooled = last[torch.arange(len(tokens), device=last.device), end]
        return TextStates(hidden, last, pooled if self.projection is None else self.projection(pooled))


class ClipVision(nn.Module):
    """Images to patches to states and, with a projection, an embedding; a class token goes first."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.class_embedding = nn.Parameter(torch.zeros(spec.width))
        self.patch_embedding = nn.Conv2d(3, spec.width, spec.patch, stride=spec.patch, bias=False)
        self.position_embedding = nn.Embedding((spec.image // spec.patch) ** 2 + 1, spec.width)
        self.pre_norm = nn.LayerNorm(spec.width)
        self.layers = nn.ModuleList(Layer(spec.width, spec.heads, spec.mlp, spec.act) for _ in range(spec.layers))
        self.post_norm = nn.LayerNorm(spec.width)
        self.projection = None if spec.projection is None else nn.Linear(spec.width, spec.projection, bias=False)

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> VisionStates:
        """image: normalised with CLIP's mean and deviation, side spec.image."""
        patches = self.patch_embedding(image).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(image), 1, -1)
        tokens = torch.cat([first, patches], dim=1)
        x = tokens + self.position_embedding(torch.arange(tokens.shape[1], device=tokens.device))
        hidden = _run(self.layers, self.pre_norm(x), causal=False)
        pooled = self.post_norm(hidden[-1][:, 0])
        return VisionStates(hidden, pooled, None if self.projection is None else self.projection(pooled))


class ClipJoint(nn.Module):
    """Where CLIP's towers meet, for models whose text tower is kept without its projection.

    logit_scale: the logarithm of what the cosines of two embeddings are multiplied with, a scalar.
    """

    def __init__(self, spec: JointSpec) -> None:
        super().__init__()
        self.spec = spec
        self.text_projection = nn.Linear(spec.width, spec.joint, bias=False)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, pooled: Float[Tensor, "b w"]) -> Float[Tensor, "b j"]:
        """The embedding of a text from the tower's pooled state."""
        return self.text_projection(pooled)
