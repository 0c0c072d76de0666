"""The U-Net on disk: its spec from its shapes, and its settings in diffusers' layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from atelier.errors import BadFile, BadInput
from atelier.families.config import Config
from atelier.families.facts import Facts, PartFacts
from atelier.families.family import Ends
from atelier.families.part import Architecture, PartSpec, Settings, Surroundings
from atelier.families.parts.written import SILU, WRITTEN_FOR
from atelier.families.shapes import Shapes
from atelier.weights.names import unet as names
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    from atelier.models.unet import UNet, UNetSpec

HEADS, GROUPS = (8,), 32
"""Of Stable Diffusion 1.x: so many attention heads on every level, so many groups in the norms."""
SIZE_WIDTH = 256
"""Of Stable Diffusion XL: so many numbers for each size of the vector condition."""
NARROW_HEADS = PartFacts(head_width=64)
"""Of Stable Diffusion 2.x and XL: heads are counted by their width."""
LATENT_SIDE = 64
"""What diffusers means where a configuration does not say the size."""

FIRST_KEY = "transformer_blocks.0.attn1.to_k.weight"
"""What the first attention of a transformer makes its keys with, behind the transformer's name."""
READS = "attn2.to_k."
"""What the names of layers hold that read the text."""
PROJECTS = "proj_in.weight"
"""The first layer of what is around transformers, behind its name."""

SUPPORTED: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "_class_name": ("UNet2DConditionModel",),
        "act_fn": SILU,
        "addition_embed_type": (None, "text_time"),
        "attention_type": ("default",),
        "center_input_sample": (False,),
        "class_embed_type": (None,),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "cross_attention_norm": (None,),
        "downsample_padding": (1,),
        "dual_cross_attention": (False,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "flip_sin_to_cos": (True,),
        "freq_shift": (0,),
        "mid_block_scale_factor": (1,),
        "mid_block_type": ("UNetMidBlock2DCrossAttn", None),
        "norm_eps": (1e-5,),
        "resnet_out_scale_factor": (1.0,),
        "resnet_skip_time_act": (False,),
        "resnet_time_scale_shift": ("default",),
        "time_embedding_act_fn": (None,),
        "time_embedding_dim": (None,),
        "time_embedding_type": ("positional",),
        "timestep_post_act": (None,),
    }
)
"""What a U-Net's configuration may say; anything else is another network than ours."""


def infer(shapes: Shapes, facts: PartFacts) -> UNetSpec:
    """Raises BadFile where the shapes are no U-Net's, or the facts do not fit them."""
    grid = _whole_grid(shapes)
    _context(shapes, grid)
    return infer_encoder(shapes, facts, shapes.shape(grid.conv_out, 4)[0])


def infer_encoder(shapes: Shapes, facts: PartFacts, out_channels: int) -> UNetSpec:
    """The same from the way down and the middle alone, which do not tell how many channels come out, and need not
    attend to a text: its width is 0 then."""
    from atelier.models.unet import UNetSpec

    grid = _grid(shapes)
    groups = facts.groups or GROUPS
    widths = tuple(shapes.shape(grid.conv(level), 4)[0] for level in range(grid.levels))
    heads = _heads(facts, widths)
    if len(heads) != grid.levels:
        raise BadFile(shapes.source, f"has {grid.levels} levels, but heads for {len(heads)}")
    for width, count in zip(widths, heads, strict=True):
        shapes.divides(groups, width, "groups")
        shapes.divides(count, width, "heads")
    return UNetSpec(
        in_channels=shapes.shape(grid.conv_in, 4)[1],
        out_channels=out_channels,
        widths=widths,
        blocks=grid.blocks,
        depth=tuple(shapes.count(grid.attention(level) + "transformer_blocks.{}.") for level in range(grid.levels)),
        mid_depth=shapes.count(grid.middle + "transformer_blocks.{}."),
        heads=heads,
        context=next((shape[-1] for name, shape in shapes.found.items() if READS in name), 0),
        linear_proj=any(len(shape) == 2 for name, shape in shapes.found.items() if name.endswith(PROJECTS)),
        groups=groups,
        vector=shapes.shape(grid.vector, 2)[1] if grid.vector in shapes.found else None,
        size_width=facts.size_width or SIZE_WIDTH,
        guidance=shapes.shape(grid.guidance, 2)[1] if grid.guidance in shapes.found else None,
        noise_levels=shapes.shape(grid.noise_levels, 2)[0] if grid.noise_levels in shapes.found else None,
        only_cross=_only_cross(shapes, grid, widths),
        hollow=_hollow(shapes, grid),
    )


def _hollow(shapes: Shapes, grid: _Grid) -> tuple[bool, ...]:
    """Of each level and then of the middle, whether there are layers around transformers of no blocks; () where there
    are nowhere."""
    places = (*(grid.attention(level) for level in range(grid.levels)), grid.middle)
    found = tuple(
        place + PROJECTS in shapes.found and not shapes.count(place + "transformer_blocks.{}.") for place in places
    )
    return found if any(found) else ()


def _only_cross(shapes: Shapes, grid: _Grid, widths: Sequence[int]) -> tuple[bool, ...]:
    """Of each level, whether its first attention reads the text, which is of another width; () where none does."""
    keys = [shapes.found.get(grid.attention(level) + FIRST_KEY) for level in range(grid.levels)]
    found = tuple(key is not None and key[-1] != width for key, width in zip(keys, widths, strict=True))
    return found if any(found) else ()


def _heads(facts: PartFacts, widths: tuple[int, ...]) -> tuple[int, ...]:
    """Of each level, as far as is known."""
    if facts.heads is None and facts.head_width is not None:
        return tuple(max(1, width // facts.head_width) for width in widths)
    stated = facts.heads or HEADS
    return stated * len(widths) if len(stated) == 1 else stated


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
    def vector(self) -> str:
        return "label_emb.0.0.weight" if self.layout == "ldm" else "add_embedding.linear_1.weight"

    @property
    def noise_levels(self) -> str:
        return "label_emb.weight" if self.layout == "ldm" else "class_embedding.weight"

    @property
    def guidance(self) -> str:
        return "time_embed.cond_proj.weight" if self.layout == "ldm" else "time_embedding.cond_proj.weight"

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


def _grid(shapes: Shapes) -> _Grid:
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


def _whole_grid(shapes: Shapes) -> _Grid:
    """Raises BadFile for a U-Net that lacks the attention in the middle and has it elsewhere: its levels are not
    equally deep either, on the way down and up."""
    grid = _grid(shapes)
    if not any(name.startswith(grid.middle) for name in shapes.found) and any(READS in name for name in shapes.found):
        raise BadFile(
            shapes.source,
            "is distilled to fewer layers, as SSD-1B, Segmind Vega, small and tiny SD are, and cannot be built here "
            "yet: choose the model that it was made of",
        )
    return grid


def ends(shapes: Shapes) -> Ends:
    """Without importing torch. Raises BadFile where the shapes are no U-Net's."""
    grid = _whole_grid(shapes)
    return Ends(shapes.shape(grid.conv_in, 4)[1], shapes.shape(grid.conv_out, 4)[0], _context(shapes, grid))


def _context(shapes: Shapes, grid: _Grid) -> int:
    return shapes.shape(grid.middle + "transformer_blocks.0.attn2.to_k.weight", 2)[1]


def _read(known: Facts, part: str, config: Config, shapes: Shapes) -> Facts:
    """`attention_head_dim` is the number of heads, in spite of its name; newer files have a field for it."""
    _agrees_cross(config, shapes, _whole_grid(shapes))
    config.only(SUPPORTED)
    shapes.agrees(config, "in_channels", "conv_in.weight", 1)
    shapes.agrees(config, "out_channels", "conv_out.weight", 0)
    context = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    shapes.agrees(config, "cross_attention_dim", context, 1)
    shapes.agrees_widths(config, "down_blocks.{}.resnets.0.conv2.weight")
    vector = "add_embedding.linear_1.weight"
    config.agrees("addition_embed_type", "text_time" if vector in shapes.found else None)
    shapes.agrees(config, "projection_class_embeddings_input_dim", vector, 1)
    _, *read = shapes.found.get("time_embedding.cond_proj.weight", (0,))
    config.agrees("time_cond_proj_dim", read[0] if read else None)
    levels, *_ = shapes.found.get("class_embedding.weight", (None,))
    config.agrees("num_class_embeds", levels)
    heads = config.wholes("num_attention_heads", config.wholes("attention_head_dim", HEADS))
    groups, size_width = config.whole("norm_num_groups", GROUPS), config.optional("addition_time_embed_dim")
    known = known.knowing(part, PartFacts(heads=heads, groups=groups, size_width=size_width))
    return replace(known, latent_side=config.wholes("sample_size", (LATENT_SIDE,))[0])


def _agrees_cross(config: Config, shapes: Shapes, grid: _Grid) -> None:
    """Raises BadFile where the configuration says of a level with transformers other than their shapes do."""
    key = "only_cross_attention"
    widths = [shapes.shape(grid.conv(level), 4)[0] for level in range(grid.levels)]
    found = _only_cross(shapes, grid, widths) or (False,) * grid.levels
    stated = config.values.get(key, False)
    each = cast("list[object]", stated) if isinstance(stated, list) else [stated] * grid.levels
    deep = [grid.attention(level) + FIRST_KEY in shapes.found for level in range(grid.levels)]
    if len(each) != grid.levels or any(d and s != f for d, s, f in zip(deep, each, found, strict=True)):
        raise config.wrong(key, json.dumps(found))


def _write(spec: UNetSpec, around: Surroundings) -> dict[str, object]:
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in spec.depth]
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(spec.depth)]
    heads: object = spec.heads[0] if len(set(spec.heads)) == 1 else list(spec.heads)
    return {
        **_write_vector(spec),
        **({} if spec.guidance is None else {"time_cond_proj_dim": spec.guidance}),
        **({} if spec.noise_levels is None else {"num_class_embeds": spec.noise_levels}),
        **({"only_cross_attention": list(spec.only_cross)} if spec.only_cross else {}),
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": WRITTEN_FOR,
        "act_fn": "silu",
        "attention_head_dim": heads,
        "block_out_channels": list(spec.widths),
        "center_input_sample": False,
        "cross_attention_dim": spec.context,
        "down_block_types": down,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": spec.in_channels,
        "layers_per_block": spec.blocks,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": spec.groups,
        "out_channels": spec.out_channels,
        "sample_size": around.size // around.factor,
        "transformer_layers_per_block": _depths(spec),
        "up_block_types": up,
        "use_linear_projection": spec.linear_proj,
    }


def _write_vector(spec: UNetSpec) -> dict[str, object]:
    if spec.vector is None:
        return {}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": spec.size_width,
        "projection_class_embeddings_input_dim": spec.vector,
    }


def _depths(spec: UNetSpec) -> object:
    """diffusers takes the depth of the middle from the last level, whether or not that has transformers itself."""
    if spec.depth[-1] not in {0, spec.mid_depth}:
        raise BadInput(
            f"a middle of {spec.mid_depth} transformer blocks under a last level of {spec.depth[-1]} has no diffusers "
            "layout; write the ldm layout"
        )
    depths = [*(depth or 1 for depth in spec.depth[:-1]), spec.mid_depth]
    return depths[0] if len(set(depths)) == 1 else depths


def _facts(spec: UNetSpec) -> PartFacts:
    size_width = None if spec.vector is None else spec.size_width
    return PartFacts(heads=spec.heads, groups=spec.groups, size_width=size_width)


def _build(spec: UNetSpec) -> UNet:
    from atelier.models.unet import UNet

    return UNet(spec)


NETWORK = Architecture(infer, names.names, _build, _facts, Settings(_read, _write))
UNET = PartSpec("unet", "U-Net", "model.diffusion_model.", "unet", "diffusion_pytorch_model", NETWORK)
