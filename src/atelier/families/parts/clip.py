"""CLIP's towers on disk: their specs from their shapes, and their settings in diffusers' layout."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.families.config import Config
from atelier.families.facts import NO_FACTS, Activation, Facts, PartFacts, activation
from atelier.families.part import Architecture, PartSpec, Settings, Surroundings
from atelier.families.shapes import Shapes
from atelier.weights.names import clip as names

if TYPE_CHECKING:
    from atelier.models.clip import ClipJoint, ClipText, ClipVision, JointSpec, TextSpec, VisionSpec
    from atelier.weights.tokenizer import ClipTokenizer

VOCABULARY = 49408
"""Of the published towers; their last token is the end mark."""
HEAD_WIDTH = 64
"""Of every published tower: what heads are counted by where nobody says."""
ACT: Activation = "quick_gelu"
OF_OPENCLIP, WIDE_HEADS = frozenset({1280, 1408, 1664}), 16
"""Widths of vision towers that only OpenCLIP trained (ViT-H, ViT-g, ViT-bigG), and how many heads each has."""
NORM: Mapping[str, tuple[object, ...]] = MappingProxyType({"layer_norm_eps": (1e-5,)})
LEGACY_EOS = 2
"""transformers' early configurations of CLIP say 2 and mean the largest id."""


def infer_text(shapes: Shapes, facts: PartFacts) -> TextSpec:
    """Raises BadFile where the shapes are no text tower's, or the facts do not fit them."""
    from atelier.models.clip import TextSpec

    root = shapes.ending("embeddings.token_embedding.weight")
    vocabulary, width = shapes.shape(f"{root}embeddings.token_embedding.weight", 2)
    heads = heads_of(facts, width)
    shapes.divides(heads, width, "heads")
    projection = next((name for name in shapes.found if name.endswith("text_projection.weight")), None)
    return TextSpec(
        vocab=vocabulary,
        width=width,
        layers=shapes.count(root + "encoder.layers.{}."),
        heads=heads,
        mlp=shapes.shape(f"{root}encoder.layers.0.mlp.fc1.weight", 2)[0],
        positions=shapes.shape(f"{root}embeddings.position_embedding.weight", 2)[0],
        act=facts.act or ACT,
        projection=None if projection is None else shapes.shape(projection, 2)[0],
        eos=facts.eos or min(vocabulary, VOCABULARY) - 1,
    )


def infer_vision(shapes: Shapes, facts: PartFacts) -> VisionSpec:
    """Raises BadFile where the shapes are no vision tower's, or the facts do not fit them."""
    from atelier.models.clip import VisionSpec

    root = shapes.ending("embeddings.patch_embedding.weight")
    width, _, patch, _ = shapes.shape(f"{root}embeddings.patch_embedding.weight", 4)
    places = shapes.shape(f"{root}embeddings.position_embedding.weight", 2)[0] - 1
    heads = vision_heads(facts, width)
    shapes.divides(heads, width, "heads")
    projection = "visual_projection.weight"
    return VisionSpec(
        image=isqrt(places) * patch,
        patch=patch,
        width=width,
        layers=shapes.count(root + "encoder.layers.{}."),
        heads=heads,
        mlp=shapes.shape(f"{root}encoder.layers.0.mlp.fc1.weight", 2)[0],
        act=facts.act or vision_act(width),
        projection=shapes.shape(projection, 2)[0] if projection in shapes.found else None,
    )


def infer_joint(shapes: Shapes, _: PartFacts) -> JointSpec:
    """Raises BadFile where the shapes are no projection's."""
    from atelier.models.clip import JointSpec

    joint, width = shapes.shape("text_projection.weight", 2)
    return JointSpec(width, joint)


def heads_of(facts: PartFacts, width: int) -> int:
    """Of a tower of this width."""
    return facts.heads[0] if facts.heads else max(1, width // HEAD_WIDTH)


def vision_heads(facts: PartFacts, width: int) -> int:
    """The same of a vision tower."""
    return WIDE_HEADS if not facts.heads and width in OF_OPENCLIP else heads_of(facts, width)


def vision_act(width: int) -> Activation:
    """What is between the layers of a vision tower where nobody says."""
    return "gelu" if width in OF_OPENCLIP else ACT


def _read_text(known: Facts, part: str, config: Config, shapes: Shapes) -> Facts:
    config.only(NORM)
    root = "text_model." if any(name.startswith("text_model.") for name in shapes.found) else ""
    shapes.agrees(config, "vocab_size", f"{root}embeddings.token_embedding.weight", 0)
    shapes.agrees(config, "hidden_size", f"{root}embeddings.token_embedding.weight", 1)
    heads, act, eos = _read_heads(config, 8), activation(config, "hidden_act"), config.optional("eos_token_id")
    return known.knowing(part, PartFacts(heads=heads, act=act, eos=None if eos == LEGACY_EOS else eos))


def _read_vision(known: Facts, part: str, config: Config, _: Shapes) -> Facts:
    config.only(NORM)
    heads, act = _read_heads(config, 12), activation(config, "hidden_act")
    return known.knowing(part, PartFacts(heads=heads, act=act))


def _read_heads(config: Config, default: int) -> tuple[int, ...]:
    return (config.whole("num_attention_heads", default),)


def _write_text(spec: TextSpec, around: Surroundings) -> dict[str, object]:
    from atelier.weights.tokenizer import ClipTokenizer

    tokenizer = around.tokenizer
    assert isinstance(tokenizer, ClipTokenizer)
    return {
        "architectures": ["CLIPTextModel" if spec.projection is None else "CLIPTextModelWithProjection"],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.bos,
        "eos_token_id": spec.eos,
        "hidden_act": spec.act,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": spec.positions,
        "model_type": "clip_text_model",
        "num_attention_heads": spec.heads,
        "num_hidden_layers": spec.layers,
        "pad_token_id": tokenizer.pad,
        "projection_dim": spec.projection or spec.width,
        "vocab_size": spec.vocab,
    }


def _write_vision(spec: VisionSpec, _: Surroundings) -> dict[str, object]:
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "attention_dropout": 0.0,
        "hidden_act": spec.act,
        "hidden_size": spec.width,
        "image_size": spec.image,
        "intermediate_size": spec.mlp,
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
        "num_attention_heads": spec.heads,
        "num_channels": 3,
        "num_hidden_layers": spec.layers,
        "patch_size": spec.patch,
        "projection_dim": spec.projection or spec.width,
    }


def _text_facts(spec: TextSpec) -> PartFacts:
    return PartFacts(heads=(spec.heads,), act=spec.act, eos=spec.eos)


def _vision_facts(spec: VisionSpec) -> PartFacts:
    return PartFacts(heads=(spec.heads,), act=spec.act)


def _joint_facts(_: JointSpec) -> PartFacts:
    return NO_FACTS


def _build_text(spec: TextSpec) -> ClipText:
    from atelier.models.clip import ClipText

    return ClipText(spec)


def _build_vision(spec: VisionSpec) -> ClipVision:
    from atelier.models.clip import ClipVision

    return ClipVision(spec)


def _build_joint(spec: JointSpec) -> ClipJoint:
    from atelier.models.clip import ClipJoint

    return ClipJoint(spec)


TEXT_SETTINGS = Settings(_read_text, _write_text)
TEXT_NETWORK = Architecture(infer_text, names.names, _build_text, _text_facts, TEXT_SETTINGS)
VISION_NETWORK = Architecture(
    infer_vision, names.vision_names, _build_vision, _vision_facts, Settings(_read_vision, _write_vision)
)
JOINT_NETWORK = Architecture(infer_joint, names.joint_names, _build_joint, _joint_facts)

TEXT = PartSpec("text", "text encoder", "cond_stage_model.", "text_encoder", "model", TEXT_NETWORK)
VISION = PartSpec("vision", "image encoder", "image_encoder.", "image_encoder", "model", VISION_NETWORK, required=False)
PROJECTION = PartSpec("projection", "projection", "projection.", "projection", "model", JOINT_NETWORK, required=False)


def clip_l() -> ClipTokenizer:
    """CLIP's own tokenizer, which pads with the end mark."""
    from atelier.weights.tokenizer import standard

    return standard()
