"""The MMDiT on disk: its spec from its shapes, and its settings in diffusers' layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.families.facts import Facts, PartFacts
from atelier.families.family import Ends
from atelier.families.part import Architecture, PartSpec, Settings, Surroundings
from atelier.families.parts.written import WRITTEN_FOR
from atelier.families.shapes import Shapes
from atelier.weights.names import mmdit as names
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    from atelier.models.mmdit import MMDiT, MMDiTSpec

HEAD_WIDTH = 64
"""Of every published one: what heads are counted by where nobody says."""
LATENT_SIDE = 128
"""What diffusers means where a configuration does not say the size."""
RMS_NORM = "rms_norm"

SUPPORTED: Mapping[str, tuple[object, ...]] = MappingProxyType({"_class_name": ("SD3Transformer2DModel",)})
"""What a configuration may say beside the sizes, which the shapes tell."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a layout keeps what the spec is read from."""

    layout: Layout

    def name(self, ldm: str, diffusers: str) -> str:
        return ldm if self.layout == "ldm" else diffusers

    @property
    def patches(self) -> str:
        return self.name("x_embedder.proj.weight", "pos_embed.proj.weight")

    @property
    def table(self) -> str:
        return self.name("pos_embed", "pos_embed.pos_embed")

    @property
    def final(self) -> str:
        return self.name("final_layer.linear.weight", "proj_out.weight")

    @property
    def pooled(self) -> str:
        return self.name("y_embedder.mlp.0.weight", "time_text_embed.text_embedder.linear_1.weight")

    @property
    def block(self) -> str:
        return self.name("joint_blocks.{}.", "transformer_blocks.{}.")

    @property
    def norm(self) -> str:
        return self.name("joint_blocks.0.x_block.attn.ln_q.weight", "transformer_blocks.0.attn.norm_q.weight")

    @property
    def second(self) -> str:
        return self.name("joint_blocks.{}.x_block.attn2.", "transformer_blocks.{}.attn2.")


def infer(shapes: Shapes, facts: PartFacts) -> MMDiTSpec:
    """Raises BadFile where the shapes are no MMDiT's, or the facts do not fit them."""
    from atelier.models.mmdit import MMDiTSpec

    places, end = _Places(shapes.layout), ends(shapes)
    width, _, patch, _ = shapes.shape(places.patches, 4)
    heads, depth = _heads(shapes, facts, width), shapes.count(places.block)
    shapes.divides(heads, width, "heads")
    return MMDiTSpec(
        in_channels=end.in_channels,
        out_channels=end.out_channels,
        width=width,
        depth=depth,
        heads=heads,
        patch=patch,
        context=end.context,
        pooled=end.pooled,
        side=_side(shapes),
        qk_norm=places.norm in shapes.found,
        dual=tuple(i for i in range(depth) if any(n.startswith(places.second.format(i)) for n in shapes.found)),
    )


def ends(shapes: Shapes) -> Ends:
    """What goes in and comes out of an MMDiT of these shapes. Raises BadFile."""
    places = _Places(shapes.layout)
    _, channels, patch, _ = shapes.shape(places.patches, 4)
    outputs = shapes.shape(places.final, 2)[0] // patch**2
    context = shapes.shape("context_embedder.weight", 2)[1]
    return Ends(channels, outputs, context, pooled=shapes.shape(places.pooled, 2)[1])


def _heads(shapes: Shapes, facts: PartFacts, width: int) -> int:
    """As said, or as the norm of a head's queries tells, or as wide as those of every published one."""
    if facts.heads:
        return facts.heads[0]
    norm = shapes.found.get(_Places(shapes.layout).norm, (HEAD_WIDTH,))
    return max(1, width // max(1, norm[0] if norm else HEAD_WIDTH))


def _side(shapes: Shapes) -> int:
    name = _Places(shapes.layout).table
    places = shapes.shape(name, 3)[1]
    if isqrt(places) ** 2 != places:
        raise BadFile(shapes.source, f"has {shapes.prefix}{name} of {places} places, which are no square")
    return isqrt(places)


def _read(known: Facts, part: str, config: Config, shapes: Shapes) -> Facts:
    config.only(SUPPORTED)
    shapes.agrees(config, "joint_attention_dim", "context_embedder.weight", 1)
    shapes.agrees(config, "pooled_projection_dim", _Places("diffusers").pooled, 1)
    config.agrees("num_layers", shapes.count(_Places("diffusers").block))
    config.only({"qk_norm": (RMS_NORM if _Places("diffusers").norm in shapes.found else None,)})
    heads = config.whole("num_attention_heads", 18)
    return replace(known.knowing(part, PartFacts(heads=(heads,))), latent_side=config.whole("sample_size", LATENT_SIDE))


def _write(spec: MMDiTSpec, around: Surroundings) -> dict[str, object]:
    return {
        "_class_name": "SD3Transformer2DModel",
        "_diffusers_version": WRITTEN_FOR,
        "attention_head_dim": spec.head_width,
        "caption_projection_dim": spec.width,
        "dual_attention_layers": list(spec.dual),
        "in_channels": spec.in_channels,
        "joint_attention_dim": spec.context,
        "num_attention_heads": spec.heads,
        "num_layers": spec.depth,
        "out_channels": spec.out_channels,
        "patch_size": spec.patch,
        "pooled_projection_dim": spec.pooled,
        "pos_embed_max_size": spec.side,
        "qk_norm": RMS_NORM if spec.qk_norm else None,
        "sample_size": around.size // around.factor,
    }


def _facts(spec: MMDiTSpec) -> PartFacts:
    return PartFacts(heads=(spec.heads,))


def _build(spec: MMDiTSpec) -> MMDiT:
    from atelier.models.mmdit import MMDiT

    return MMDiT(spec)


NETWORK = Architecture(infer, names.names, _build, _facts, Settings(_read, _write))
MMDIT = PartSpec(
    "transformer", "transformer", "model.diffusion_model.", "transformer", "diffusion_pytorch_model", NETWORK
)
