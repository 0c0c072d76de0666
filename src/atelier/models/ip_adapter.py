"""IP-Adapter (Ye et al. 2023, arXiv:2308.06721): image tokens, and the keys and values that attention makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.models.unet import UNetSpec
from atelier.nn.attention import attend, merge_heads, split_heads


@dataclass(frozen=True, slots=True)
class LinearSpec:
    """One layer: an embedding of `features` numbers becomes `tokens` tokens as wide as the text states."""

    features: int
    tokens: int
    context: int


@dataclass(frozen=True, slots=True)
class MlpSpec:
    """Two layers, `inner` wide between them. each: every one of the states of an image becomes a token, and `tokens` is
    1; otherwise one embedding becomes `tokens` tokens."""

    features: int
    inner: int
    tokens: int
    context: int
    each: bool = False


@dataclass(frozen=True, slots=True)
class ResamplerSpec:
    """A perceiver: `tokens` learned queries read the states of an image in `layers` layers; 0 tokens: it has no queries
    of its own, and refines those that it is given. width: of its states; context: of what it returns."""

    features: int
    width: int
    context: int
    tokens: int
    layers: int
    heads: int
    mlp: int


@dataclass(frozen=True, slots=True)
class FaceSpec:
    """Tokens of the embedding of a face, refined by the states of an image of it."""

    face: MlpSpec
    states: ResamplerSpec


Projection = LinearSpec | MlpSpec | ResamplerSpec | FaceSpec


@dataclass(frozen=True, slots=True)
class IpAdapterSpec:
    """projection: what makes tokens of an image; unet: of the models that it is for."""

    projection: Projection
    unet: UNetSpec

    @property
    def context(self) -> int:
        """Width of the tokens."""
        return self.unet.context


@dataclass(frozen=True, slots=True)
class AttentionPlace:
    """A pair of attentions of a U-Net, which read the map itself (attn1) and the text (attn2). path: of the block that
    they are in; theirs: what diffusers calls it; width: of its queries."""

    path: str
    theirs: str
    width: int


def places(spec: UNetSpec) -> tuple[AttentionPlace, ...]:
    """All of a U-Net in the order in which files of IP-Adapters count them: the way down, the way up, the middle.

    Attention 2 i is attn1 of place i, and 2 i + 1 is its attn2.
    """
    levels = len(spec.widths)
    found: list[AttentionPlace] = []
    for level in range(levels):
        for j in range(spec.blocks):
            found += _blocks(f"down.{level}", f"down_blocks.{level}", j, spec.depth[level], spec.widths[level])
    for index in range(levels):
        level = levels - 1 - index
        for j in range(spec.blocks + 1):
            found += _blocks(f"up.{index}", f"up_blocks.{index}", j, spec.depth[level], spec.widths[level])
    middle = ((f"middle.attention.blocks.{k}", f"mid_block.attentions.0.transformer_blocks.{k}") for k in _mid(spec))
    return (*found, *(AttentionPlace(path, theirs, spec.widths[-1]) for path, theirs in middle))


def _mid(spec: UNetSpec) -> range:
    return range(spec.mid_depth)


def _blocks(path: str, theirs: str, j: int, depth: int, width: int) -> list[AttentionPlace]:
    own, other = f"{path}.attentions.{j}.blocks", f"{theirs}.attentions.{j}.transformer_blocks"
    return [AttentionPlace(f"{own}.{k}", f"{other}.{k}", width) for k in range(depth)]


class LinearTokens(nn.Module):
    """The first IP-Adapter (section 3.2.1)."""

    def __init__(self, spec: LinearSpec) -> None:
        super().__init__()
        self.spec = spec
        self.proj = nn.Linear(spec.features, spec.tokens * spec.context)
        self.norm = nn.LayerNorm(spec.context)

    def forward(self, embedding: Float[Tensor, "n f"]) -> Float[Tensor, "n t c"]:
        """embedding: of an image."""
        return self.norm(self.proj(embedding).reshape(len(embedding), -1, self.spec.context))


class MlpTokens(nn.Module):
    """FaceID, FaceID-portrait, and full-face with every state a token."""

    def __init__(self, spec: MlpSpec) -> None:
        super().__init__()
        self.spec = spec
        self.fc1 = nn.Linear(spec.features, spec.inner)
        self.fc2 = nn.Linear(spec.inner, spec.tokens * spec.context)
        self.norm = nn.LayerNorm(spec.context)

    def forward(self, features: Tensor) -> Float[Tensor, "n t c"]:
        """features: (N, F) embeddings, or (N, T, F) states of which each becomes a token."""
        made = self.fc2(F.gelu(self.fc1(features)))
        return self.norm(made.reshape(len(features), -1, self.spec.context))


class PerceiverLayer(nn.Module):
    """Queries read what they are given and each other, then a feed-forward (Alayrac 2022, arXiv:2204.14198, A.1.1)."""

    def __init__(self, spec: ResamplerSpec) -> None:
        super().__init__()
        width, self.heads = spec.width, spec.heads
        self.norm_states = nn.LayerNorm(width)
        self.norm_queries = nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norm_mlp = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, spec.mlp, bias=False)
        self.fc2 = nn.Linear(spec.mlp, width, bias=False)

    def forward(self, queries: Float[Tensor, "n t w"], states: Float[Tensor, "n s w"]) -> Float[Tensor, "n t w"]:
        own = self.norm_queries(queries)
        source = torch.cat([self.norm_states(states), own], dim=1)
        query, key, value = (
            split_heads(made, self.heads) for made in (self.to_q(own), self.to_k(source), self.to_v(source))
        )
        queries = queries + self.to_out(merge_heads(attend(query, key, value)))
        return queries + self.fc2(F.gelu(self.fc1(self.norm_mlp(queries))))


class Resampler(nn.Module):
    """IP-Adapter-plus, and InstantID of a face's embedding (Wang 2024, arXiv:2401.07519, section 3.2)."""

    def __init__(self, spec: ResamplerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.queries = nn.Parameter(torch.zeros(1, spec.tokens, spec.width)) if spec.tokens else None
        self.proj_in = nn.Linear(spec.features, spec.width)
        self.layers = nn.ModuleList(PerceiverLayer(spec) for _ in range(spec.layers))
        self.proj_out = nn.Linear(spec.width, spec.context)
        self.norm_out = nn.LayerNorm(spec.context)

    def forward(self, states: Float[Tensor, "n s f"], queries: Tensor | None = None) -> Float[Tensor, "n t c"]:
        """states: (N, F) is one state of each. queries: (N, T, width), for a resampler that has none of its own."""
        states = states if states.ndim == 3 else states[:, None]
        if queries is None:
            if self.queries is None:
                raise ValueError("this resampler has no queries of its own")
            queries = self.queries.expand(len(states), -1, -1)
        read = self.proj_in(states)
        for layer in self.layers:
            queries = layer(queries, read)
        return self.norm_out(self.proj_out(queries))


class FaceTokens(nn.Module):
    """FaceID-plus, both versions."""

    def __init__(self, spec: FaceSpec) -> None:
        super().__init__()
        self.spec = spec
        self.face = MlpTokens(spec.face)
        self.states = Resampler(spec.states)

    def forward(
        self, face: Float[Tensor, "n f"], states: Float[Tensor, "n s w"], shortcut: float | None
    ) -> Float[Tensor, "n t c"]:
        """face: embeddings; states: of images of the faces. shortcut: version 2 adds so many times what the states say
        to what the embedding says; None: version 1, in which they say all."""
        tokens = self.face(face)
        refined = self.states(states, tokens)
        return refined if shortcut is None else tokens + shortcut * refined


class IpAdapter(nn.Module):
    """The projection, and the keys and values of each attention to the text, in the order of `places`."""

    def __init__(self, spec: IpAdapterSpec) -> None:
        super().__init__()
        self.spec = spec
        self.projection = projection(spec.projection)
        widths = [place.width for place in places(spec.unet)]
        self.to_k = nn.ModuleList(nn.Linear(spec.context, width, bias=False) for width in widths)
        self.to_v = nn.ModuleList(nn.Linear(spec.context, width, bias=False) for width in widths)


def projection(spec: Projection) -> LinearTokens | MlpTokens | Resampler | FaceTokens:
    """The module that a spec shapes."""
    match spec:
        case LinearSpec():
            return LinearTokens(spec)
        case MlpSpec():
            return MlpTokens(spec)
        case ResamplerSpec():
            return Resampler(spec)
        case FaceSpec():
            return FaceTokens(spec)
