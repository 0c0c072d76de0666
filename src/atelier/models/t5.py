"""The encoder of T5 1.1 (Raffel 2020, arXiv:1910.10683; Shazeer 2020, arXiv:2002.05202, for its gated perceptron)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from atelier.nn.attention import merge_heads, split_heads

EPS = 1e-6
FARTHEST = 128
"""Distances from here on share the last bucket."""
HEADROOM = 1000
"""How far below the largest number of float16 the stream is kept, which T5 was not trained to fit."""


@dataclass(frozen=True, slots=True)
class T5Spec:
    """Everything that shapes a T5 encoder. The defaults are XXL, the third text encoder of Stable Diffusion 3.

    inner: width of all heads together; mlp: of the perceptron; buckets: of distances, both directions together.
    """

    vocab: int = 32128
    width: int = 4096
    layers: int = 24
    heads: int = 64
    inner: int = 4096
    mlp: int = 10240
    buckets: int = 32


class SelfAttention(nn.Module):
    """Attention without scale and biases, with a learned number for each head and distance."""

    def __init__(self, spec: T5Spec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(spec.width, spec.inner, bias=False) for _ in range(3))
        self.to_out = nn.Linear(spec.inner, spec.width, bias=False)

    def forward(self, x: Float[Tensor, "b t c"], distances: Float[Tensor, "1 heads t t"]) -> Float[Tensor, "b t c"]:
        query, key, value = (split_heads(f(x), self.heads) for f in (self.to_q, self.to_k, self.to_v))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=distances, scale=1.0)
        return self.to_out(merge_heads(attended))


class GatedMlp(nn.Module):
    """Two layers side by side, the first through GELU as its tanh approximates it; their product through a third."""

    def __init__(self, spec: T5Spec) -> None:
        super().__init__()
        self.gate = nn.Linear(spec.width, spec.mlp, bias=False)
        self.value = nn.Linear(spec.width, spec.mlp, bias=False)
        self.out = nn.Linear(spec.mlp, spec.width, bias=False)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        gated = F.gelu(self.gate(x), approximate="tanh")
        return self.out(gated * self.value(x))


class Layer(nn.Module):
    """Pre-norm transformer layer; the norms have no mean and no bias."""

    def __init__(self, spec: T5Spec) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(spec.width, eps=EPS)
        self.attn = SelfAttention(spec)
        self.norm2 = nn.RMSNorm(spec.width, eps=EPS)
        self.mlp = GatedMlp(spec)

    def forward(self, x: Tensor, distances: Tensor) -> Tensor:
        x = _within(x + self.attn(self.norm1(x), distances))
        return _within(x + self.mlp(self.norm2(x)))


class T5Encoder(nn.Module):
    """Token ids to text states. The numbers of distances belong to the first layer in files, and serve all."""

    def __init__(self, spec: T5Spec) -> None:
        super().__init__()
        self.spec = spec
        self.token_embedding = nn.Embedding(spec.vocab, spec.width)
        self.distances = nn.Embedding(spec.buckets, spec.heads)
        self.layers = nn.ModuleList(Layer(spec) for _ in range(spec.layers))
        self.final_norm = nn.RMSNorm(spec.width, eps=EPS)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t c"]:
        """tokens: ids, as many as there are; padding is read like any other token, as Stable Diffusion 3 does."""
        return self.encode(self.token_embedding(tokens))

    def encode(self, embedded: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        """The encoder above the token embeddings, which textual inversion replaces."""
        buckets = distance_buckets(embedded.shape[1], self.spec.buckets, embedded.device)
        distances = self.distances(buckets).permute(2, 0, 1)[None]
        x = embedded
        for layer in self.layers:
            x = layer(x, distances)
        return self.final_norm(x)


def distance_buckets(length: int, buckets: int, device: torch.device) -> Int[Tensor, "t t"]:
    """The bucket of each key's distance from each query (row): Raffel 2020, section 2.1.

    Half of the buckets are for keys behind the query; of each half, the first half are single distances, the others
    grow logarithmically up to FARTHEST.
    """
    places = torch.arange(length, device=device)
    distance = places[None] - places[:, None]
    side, near = buckets // 2, buckets // 4
    far = distance.abs()
    growth = torch.log(far.clamp(min=1).float() / near) / math.log(FARTHEST / near) * (side - near)
    spread = (near + growth.long()).clamp(max=side - 1)
    return torch.where(far < near, far, spread) + torch.where(distance > 0, side, 0)


def _within(x: Tensor) -> Tensor:
    """x as it is, but for float16: no number so large that the next sum is infinite."""
    if x.dtype != torch.float16:
        return x
    most = torch.finfo(torch.float16).max - HEADROOM
    return x.clamp(-most, most)
