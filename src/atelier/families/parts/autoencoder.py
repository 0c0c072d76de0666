"""The KL autoencoder on disk: its spec from its shapes, and its settings in diffusers' layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from atelier.families.config import Config
from atelier.families.facts import Facts, LatentFormat, PartFacts
from atelier.families.part import Architecture, PartSpec, Settings, Surroundings
from atelier.families.parts.written import SILU, WRITTEN_FOR
from atelier.families.shapes import Shapes
from atelier.weights.names import vae as names

if TYPE_CHECKING:
    from atelier.models.vae import AutoencoderKL, VaeSpec

GROUPS = 32
"""Of the norms, where nobody says."""

SUPPORTED: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "_class_name": ("AutoencoderKL",),
        "act_fn": SILU,
        "latents_mean": (None,),
        "latents_std": (None,),
    }
)


def infer(shapes: Shapes, facts: PartFacts) -> VaeSpec:
    """Raises BadFile where the shapes are no autoencoder's, or the facts do not fit them."""
    from atelier.models.vae import VaeSpec

    groups = facts.groups or GROUPS
    level, block = ("down", "block") if shapes.layout == "ldm" else ("down_blocks", "resnets")
    widths = tuple(shapes.shape(f"encoder.{level}.{i}.{block}.0.conv2.weight", 4)[0] for i in range(_levels(shapes)))
    for width in widths:
        shapes.divides(groups, width, "groups")
    middle = "encoder.mid.attn_1." if shapes.layout == "ldm" else "encoder.mid_block.attentions.0."
    return VaeSpec(
        in_channels=shapes.shape("encoder.conv_in.weight", 4)[1],
        out_channels=shapes.shape("decoder.conv_out.weight", 4)[0],
        latent=_channels(shapes),
        widths=widths,
        blocks=shapes.count(f"encoder.{level}.0.{block}" + ".{}."),
        groups=groups,
        quant_conv="quant_conv.weight" in shapes.found,
        mid_attention=any(name.startswith(middle) for name in shapes.found),
    )


def latent(shapes: Shapes, facts: Facts) -> LatentFormat:
    """The latents of an autoencoder of these shapes; the factor is 2 to the power of one less than its levels."""
    return LatentFormat(facts.latent_scale, facts.latent_shift, 2 ** (_levels(shapes) - 1), _channels(shapes))


def _levels(shapes: Shapes) -> int:
    """How many sizes an autoencoder's images go through."""
    return max(1, shapes.count("encoder.down.{}." if shapes.layout == "ldm" else "encoder.down_blocks.{}."))


def _channels(shapes: Shapes) -> int:
    """Channels of an autoencoder's latents."""
    return shapes.shape("decoder.conv_in.weight", 4)[1]


def _read(known: Facts, part: str, config: Config, shapes: Shapes) -> Facts:
    config.only(SUPPORTED)
    shapes.agrees(config, "latent_channels", "decoder.conv_in.weight", 1)
    shapes.agrees_widths(config, "encoder.down_blocks.{}.resnets.0.conv2.weight")
    return replace(
        known.knowing(part, PartFacts(groups=config.whole("norm_num_groups", GROUPS))),
        latent_scale=config.number("scaling_factor", 0.18215),
        latent_shift=config.number("shift_factor", 0.0, low=-1e6),
    )


def _write(spec: VaeSpec, around: Surroundings) -> dict[str, object]:
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": WRITTEN_FOR,
        "act_fn": "silu",
        "block_out_channels": list(spec.widths),
        "down_block_types": ["DownEncoderBlock2D"] * len(spec.widths),
        "in_channels": spec.in_channels,
        "latent_channels": spec.latent,
        "layers_per_block": spec.blocks,
        "mid_block_add_attention": spec.mid_attention,
        "norm_num_groups": spec.groups,
        "out_channels": spec.out_channels,
        "sample_size": around.size,
        "scaling_factor": around.facts.latent_scale,
        "shift_factor": around.facts.latent_shift or None,
        "up_block_types": ["UpDecoderBlock2D"] * len(spec.widths),
        "use_post_quant_conv": spec.quant_conv,
        "use_quant_conv": spec.quant_conv,
    }


def _facts(spec: VaeSpec) -> PartFacts:
    return PartFacts(groups=spec.groups)


def _build(spec: VaeSpec) -> AutoencoderKL:
    from atelier.models.vae import AutoencoderKL

    return AutoencoderKL(spec)


NETWORK = Architecture(infer, names.names, _build, _facts, Settings(_read, _write))
VAE = PartSpec("vae", "autoencoder", "first_stage_model.", "vae", "diffusion_pytorch_model", NETWORK, converted="vae.")
