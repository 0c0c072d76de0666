"""Names of the T5 encoder. The ldm column has no `text_encoders.t5xxl.` in front.

Single files hold transformers' names under `transformer.`; files of the encoder alone hold them bare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name, weight

if TYPE_CHECKING:
    from atelier.models.t5 import T5Spec

TIED = "encoder.embed_tokens.weight"
"""A second copy of the token embedding, which some files hold."""

_ATTENTION = (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out", "o"))
_MLP = (("gate", "wi_0"), ("value", "wi_1"), ("out", "wo"))


def names(spec: T5Spec) -> Iterator[Name]:
    """Every parameter of `T5Encoder(spec)`."""
    for name in _bare(spec):
        yield replace(name, ldm=f"transformer.{name.diffusers}", also=(name.diffusers,))


def _bare(spec: T5Spec) -> Iterator[Name]:
    yield _same("token_embedding", "shared")
    yield _same("distances", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias")
    for i in range(spec.layers):
        ours, theirs = f"layers.{i}", f"encoder.block.{i}.layer"
        yield _same(f"{ours}.norm1", f"{theirs}.0.layer_norm")
        for our, their in _ATTENTION:
            yield _same(f"{ours}.attn.{our}", f"{theirs}.0.SelfAttention.{their}")
        yield _same(f"{ours}.norm2", f"{theirs}.1.layer_norm")
        for our, their in _MLP:
            yield _same(f"{ours}.mlp.{our}", f"{theirs}.1.DenseReluDense.{their}")
    yield _same("final_norm", "encoder.final_layer_norm")


def _same(ours: str, theirs: str) -> Name:
    return weight(ours, theirs, theirs)
