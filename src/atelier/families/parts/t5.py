"""The T5 encoder on disk: its spec from its shapes, and its settings in diffusers' layout."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.families.config import Config
from atelier.families.facts import NO_FACTS, Facts, PartFacts
from atelier.families.part import Architecture, PartSpec, Settings, Surroundings
from atelier.families.shapes import Shapes
from atelier.weights.names import t5 as names

if TYPE_CHECKING:
    from atelier.models.t5 import T5Encoder, T5Spec

SUPPORTED: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "feed_forward_proj": ("gated-gelu",),
        "is_gated_act": (True,),
        "layer_norm_epsilon": (1e-6,),
        "relative_attention_max_distance": (128,),
    }
)
"""What a T5's configuration may say; anything else is another network than ours."""
FIRST = "encoder.block.0.layer.{}"


def infer(shapes: Shapes, _: PartFacts) -> T5Spec:
    """Raises BadFile where the shapes are no T5 encoder's."""
    from atelier.models.t5 import T5Spec

    root = shapes.ending("shared.weight")
    attention, perceptron = root + FIRST.format(0), root + FIRST.format(1)
    vocabulary, width = shapes.shape(f"{root}shared.weight", 2)
    buckets, heads = shapes.shape(f"{attention}.SelfAttention.relative_attention_bias.weight", 2)
    inner = shapes.shape(f"{attention}.SelfAttention.q.weight", 2)[0]
    shapes.divides(heads, inner, "heads")
    return T5Spec(
        vocab=vocabulary,
        width=width,
        layers=shapes.count(root + "encoder.block.{}."),
        heads=heads,
        inner=inner,
        mlp=shapes.shape(f"{perceptron}.DenseReluDense.wi_0.weight", 2)[0],
        buckets=buckets,
    )


def _read(known: Facts, _: str, config: Config, shapes: Shapes) -> Facts:
    config.only(SUPPORTED)
    shapes.agrees(config, "vocab_size", "shared.weight", 0)
    shapes.agrees(config, "d_model", "shared.weight", 1)
    config.agrees("num_layers", shapes.count("encoder.block.{}."))
    return known


def _write(spec: T5Spec, _: Surroundings) -> dict[str, object]:
    return {
        "architectures": ["T5EncoderModel"],
        "d_ff": spec.mlp,
        "d_kv": spec.inner // spec.heads,
        "d_model": spec.width,
        "dense_act_fn": "gelu_new",
        "dropout_rate": 0.0,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": True,
        "is_gated_act": True,
        "layer_norm_epsilon": 1e-6,
        "model_type": "t5",
        "num_decoder_layers": spec.layers,
        "num_heads": spec.heads,
        "num_layers": spec.layers,
        "pad_token_id": 0,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": spec.buckets,
        "tie_word_embeddings": False,
        "vocab_size": spec.vocab,
    }


def _facts(_: T5Spec) -> PartFacts:
    return NO_FACTS


def _build(spec: T5Spec) -> T5Encoder:
    from atelier.models.t5 import T5Encoder

    return T5Encoder(spec)


NETWORK = Architecture(infer, names.names, _build, _facts, Settings(_read, _write))
T5 = PartSpec("t5", "T5 text encoder", "text_encoders.t5xxl.", "text_encoder_3", "model", NETWORK, required=False)
