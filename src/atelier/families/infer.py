"""Specs from shapes: a network's widths, depths and blocks can be read from its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

from atelier.errors import BadFile
from atelier.families.facts import Facts
from atelier.weights.archive import Stored
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    from atelier.models.clip import TextSpec, VisionSpec
    from atelier.models.unet import UNetSpec
    from atelier.models.vae import VaeSpec

CLIP_VOCABULARY = 49408
HEAD_WIDTH = 64


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes of one part; `source` is the file to name in messages, `prefix` what stands before its names there."""

    source: object
    layout: Layout
    found: Mapping[str, tuple[int, ...]]
    prefix: str = ""

    @classmethod
    def of(cls, stored: Stored) -> Shapes:
        return cls(stored.archive.path, stored.layout, stored.shapes(), stored.prefix)

    def shape(self, name: str, *dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor that has to be there, with one of so many `dimensions`. Raises BadFile."""
        shape = self.found.get(name)
        if shape is None:
            raise BadFile(
                self.source, f"lacks {self.prefix}{name}, from which the network's size is read: get it again"
            )
        if len(shape) not in dimensions or 0 in shape:
            raise BadFile(self.source, f"has {self.prefix}{name} of the impossible shape {list(shape)}")
        return shape

    def count(self, pattern: str) -> int:
        """How many of pattern 0, 1, 2, … some name begins with."""
        number = 0
        while any(name.startswith(pattern.format(number)) for name in self.found):
            number += 1
        return number

    def ending(self, ending: str) -> str:
        """What stands before `ending` in the only name that has it. Raises BadFile."""
        for name in self.found:
            if name.endswith(ending):
                return name.removesuffix(ending)
        raise BadFile(self.source, f"lacks {self.prefix}…{ending}, from which the network's size is read: get it again")

    def divides(self, parts: int, width: int, what: str) -> None:
        if width % parts:
            raise BadFile(
                self.source,
                f"has {width} channels, which {parts} {what} do not divide: the settings beside it are another model's",
            )


def unet(shapes: Shapes, facts: Facts) -> UNetSpec:
    """Raises BadFile where the shapes are no U-Net's, or the facts do not fit them."""
    from atelier.models.unet import UNetSpec

    grid, ends = _unet_grid(shapes), unet_ends(shapes)
    widths = tuple(shapes.shape(grid.conv(level), 4)[0] for level in range(grid.levels))
    heads = facts.unet_heads * grid.levels if len(facts.unet_heads) == 1 else facts.unet_heads
    if len(heads) != grid.levels:
        raise BadFile(shapes.source, f"has {grid.levels} levels, but heads for {len(heads)}")
    for width, count in zip(widths, heads, strict=True):
        shapes.divides(facts.unet_groups, width, "groups")
        shapes.divides(count, width, "heads")
    return UNetSpec(
        in_channels=ends.in_channels,
        out_channels=ends.out_channels,
        widths=widths,
        blocks=grid.blocks,
        depth=tuple(shapes.count(grid.attention(level) + "transformer_blocks.{}.") for level in range(grid.levels)),
        mid_depth=shapes.count(grid.middle + "transformer_blocks.{}."),
        heads=heads,
        context=ends.context,
        linear_proj=len(shapes.shape(grid.middle + "proj_in.weight", 2, 4)) == 2,
        groups=facts.unet_groups,
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where a layout keeps the blocks of a U-Net's way down."""

    layout: Layout
    levels: int
    blocks: int

    @property
    def conv_in(self) -> str:
        return "input_blocks.0.0.weight" if self.layout == "ldm" else "conv_in.weight"

    @property
    def conv_out(self) -> str:
        return "out.2.weight" if self.layout == "ldm" else "conv_out.weight"

    @property
    def middle(self) -> str:
        return "middle_block.1." if self.layout == "ldm" else "mid_block.attentions.0."

    def conv(self, level: int) -> str:
        if self.layout == "ldm":
            return f"input_blocks.{self._first(level)}.0.out_layers.3.weight"
        return f"down_blocks.{level}.resnets.0.conv2.weight"

    def attention(self, level: int) -> str:
        return f"input_blocks.{self._first(level)}.1." if self.layout == "ldm" else f"down_blocks.{level}.attentions.0."

    def _first(self, level: int) -> int:
        return level * (self.blocks + 1) + 1


def _unet_grid(shapes: Shapes) -> _Grid:
    if shapes.layout == "diffusers":
        levels = shapes.count("down_blocks.{}.")
        grid = _Grid("diffusers", levels, shapes.count("down_blocks.0.resnets.{}."))
    else:
        rows = shapes.count("input_blocks.{}.")
        lower = [row for row in range(rows) if f"input_blocks.{row}.0.op.weight" in shapes.found]
        grid = _Grid("ldm", len(lower) + 1, (lower[0] if lower else rows) - 1)
    if grid.levels < 1 or grid.blocks < 1:
        raise BadFile(shapes.source, "holds no U-Net: it has no blocks on the way down")
    return grid


class UNetEnds(NamedTuple):
    """What goes into a U-Net and comes out, in channels; context: width of the text states."""

    in_channels: int
    out_channels: int
    context: int


def unet_ends(shapes: Shapes) -> UNetEnds:
    """Without importing torch. Raises BadFile where the shapes are no U-Net's."""
    grid = _unet_grid(shapes)
    context = shapes.shape(grid.middle + "transformer_blocks.0.attn2.to_k.weight", 2)[1]
    return UNetEnds(shapes.shape(grid.conv_in, 4)[1], shapes.shape(grid.conv_out, 4)[0], context)


def vae_levels(shapes: Shapes) -> int:
    """How many sizes an autoencoder's pictures go through; the factor is 2 to the power of one less."""
    return max(1, shapes.count("encoder.down.{}." if shapes.layout == "ldm" else "encoder.down_blocks.{}."))


def vae_latent(shapes: Shapes) -> int:
    """Channels of an autoencoder's latents."""
    return shapes.shape("decoder.conv_in.weight", 4)[1]


def vae(shapes: Shapes, facts: Facts) -> VaeSpec:
    """Raises BadFile where the shapes are no autoencoder's, or the facts do not fit them."""
    from atelier.models.vae import VaeSpec

    level, block = ("down", "block") if shapes.layout == "ldm" else ("down_blocks", "resnets")
    widths = tuple(shapes.shape(f"encoder.{level}.{i}.{block}.0.conv2.weight", 4)[0] for i in range(vae_levels(shapes)))
    for width in widths:
        shapes.divides(facts.vae_groups, width, "groups")
    middle = "encoder.mid.attn_1." if shapes.layout == "ldm" else "encoder.mid_block.attentions.0."
    return VaeSpec(
        in_channels=shapes.shape("encoder.conv_in.weight", 4)[1],
        out_channels=shapes.shape("decoder.conv_out.weight", 4)[0],
        latent=vae_latent(shapes),
        widths=widths,
        blocks=shapes.count(f"encoder.{level}.0.{block}" + ".{}."),
        groups=facts.vae_groups,
        quant_conv="quant_conv.weight" in shapes.found,
        mid_attention=any(name.startswith(middle) for name in shapes.found),
    )


def text(shapes: Shapes, facts: Facts) -> TextSpec:
    """Raises BadFile where the shapes are no text tower's, or the facts do not fit them."""
    from atelier.models.clip import TextSpec

    root = shapes.ending("embeddings.token_embedding.weight")
    vocabulary, width = shapes.shape(f"{root}embeddings.token_embedding.weight", 2)
    heads = facts.text_heads or max(1, width // HEAD_WIDTH)
    shapes.divides(heads, width, "heads")
    projection = next((name for name in shapes.found if name.endswith("text_projection.weight")), None)
    return TextSpec(
        vocab=vocabulary,
        width=width,
        layers=shapes.count(root + "encoder.layers.{}."),
        heads=heads,
        mlp=shapes.shape(f"{root}encoder.layers.0.mlp.fc1.weight", 2)[0],
        positions=shapes.shape(f"{root}embeddings.position_embedding.weight", 2)[0],
        act=facts.text_act,
        projection=None if projection is None else shapes.shape(projection, 2)[0],
        eos=facts.text_eos or min(vocabulary, CLIP_VOCABULARY) - 1,
    )


def vision(shapes: Shapes, facts: Facts) -> VisionSpec:
    """Raises BadFile where the shapes are no vision tower's, or the facts do not fit them."""
    from atelier.models.clip import VisionSpec

    root = "vision_model."
    width, _, patch, _ = shapes.shape(f"{root}embeddings.patch_embedding.weight", 4)
    places = shapes.shape(f"{root}embeddings.position_embedding.weight", 2)[0] - 1
    heads = facts.vision_heads or max(1, width // HEAD_WIDTH)
    shapes.divides(heads, width, "heads")
    projection = "visual_projection.weight"
    return VisionSpec(
        image=isqrt(places) * patch,
        patch=patch,
        width=width,
        layers=shapes.count(root + "encoder.layers.{}."),
        heads=heads,
        mlp=shapes.shape(f"{root}encoder.layers.0.mlp.fc1.weight", 2)[0],
        act=facts.vision_act,
        projection=shapes.shape(projection, 2)[0] if projection in shapes.found else None,
    )
