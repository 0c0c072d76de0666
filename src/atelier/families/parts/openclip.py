"""CLIP's text tower as open_clip trained it and keeps it: Stable Diffusion 2.x and XL. In diffusers' layout it lies as
any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from typing import TYPE_CHECKING

from atelier.families.facts import PartFacts
from atelier.families.part import PartSpec, Settings, Surroundings
from atelier.families.parts import clip
from atelier.families.shapes import Shapes
from atelier.weights.names import openclip as names

if TYPE_CHECKING:
    from atelier.models.clip import TextSpec, VisionSpec
    from atelier.weights.tokenizer import ClipTokenizer

PAD = "!"
"""What open_clip fills rows with: the token of id 0."""


def infer(shapes: Shapes, facts: PartFacts) -> TextSpec:
    """Raises BadFile where the shapes are no text tower's, or the facts do not fit them."""
    facts = replace(facts, act=facts.act or "gelu")
    return _infer_fused(shapes, facts) if shapes.layout == "ldm" else clip.infer_text(shapes, facts)


def _infer_fused(shapes: Shapes, facts: PartFacts) -> TextSpec:
    from atelier.models.clip import TextSpec

    root, projection = names.ROOT, f"{names.ROOT}text_projection"
    vocabulary, width = shapes.shape(f"{root}token_embedding.weight", 2)
    heads = clip.heads_of(facts, width)
    shapes.divides(heads, width, "heads")
    return TextSpec(
        vocab=vocabulary,
        width=width,
        layers=shapes.count(root + "transformer.resblocks.{}."),
        heads=heads,
        mlp=shapes.shape(f"{root}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        positions=shapes.shape(f"{root}positional_embedding", 2)[0],
        act=facts.act or "gelu",
        projection=shapes.shape(projection, 2)[1] if projection in shapes.found else None,
        eos=facts.eos or min(vocabulary, clip.VOCABULARY) - 1,
    )


def infer_vision(shapes: Shapes, facts: PartFacts) -> VisionSpec:
    """Of a vision tower in OpenCLIP's names. Raises BadFile where the shapes are none's, or the facts do not fit."""
    from atelier.models.clip import VisionSpec

    width, _, patch, _ = shapes.shape("conv1.weight", 4)
    heads = clip.vision_heads(facts, width)
    shapes.divides(heads, width, "heads")
    return VisionSpec(
        image=isqrt(shapes.shape("positional_embedding", 2)[0] - 1) * patch,
        patch=patch,
        width=width,
        layers=shapes.count("transformer.resblocks.{}."),
        heads=heads,
        mlp=shapes.shape("transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        act=facts.act or clip.vision_act(width),
        projection=shapes.shape("proj", 2)[1] if "proj" in shapes.found else None,
    )


def cut_off(spec: TextSpec) -> int:
    """How many layers a tower of Stable Diffusion 2.x lacks at its end.

    It was trained on the states before the last layer. Files of Stability's have that layer and the projection behind
    it; those that were converted to transformers' layout, and files made of them, have neither.
    """
    return 1 if spec.projection is None else 0


def _write_read(spec: TextSpec, around: Surroundings) -> Mapping[str, object]:
    """As diffusers reads the tower of Stable Diffusion 2.x: without what it leaves out, which may lie in the file."""
    own = replace(spec, layers=spec.layers - 1 + cut_off(spec), projection=None)
    return clip.TEXT_SETTINGS.write(own, around)


NETWORK = replace(clip.TEXT_NETWORK, infer=infer, names=names.names)
READ_BEFORE_LAST = replace(NETWORK, settings=Settings(clip.TEXT_SETTINGS.read, _write_read))
VISION_NETWORK = replace(clip.VISION_NETWORK, infer=infer_vision, names=names.vision_names)

BIG_G = PartSpec(
    "text2",
    "second text encoder",
    "conditioner.embedders.1.",
    "text_encoder_2",
    "model",
    NETWORK,
    converted="conditioner.embedders.1.transformer.",
)
CLIP_H = PartSpec(
    "text",
    "text encoder",
    "cond_stage_model.",
    "text_encoder",
    "model",
    READ_BEFORE_LAST,
    converted="cond_stage_model.transformer.",
)


def padded_with_zero() -> ClipTokenizer:
    """CLIP's own vocabulary, padded as open_clip does."""
    from atelier.weights.tokenizer import standard

    return replace(standard(), pad_token=PAD)
