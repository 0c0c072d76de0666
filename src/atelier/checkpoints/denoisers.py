"""Which family a denoising network is of, from the names and shapes of its tensors without what stands before them.

U-Nets are told by the width of the text states that they read and by their channels; the sizes are those of the
published models. Transformers are told by names that no other has.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from atelier.checkpoints.kind import Seen

TO_K = r"(?:[\w.]*\.)?transformer_blocks\.0\.attn2\.to_k\.weight"
CONTEXTS: Mapping[int, str] = MappingProxyType({768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "ldm"})
"""Width of the text states that a U-Net reads, and the family that has it."""
REFINER_CONTEXT, REFINER_SIZES = 1280, 2560
UNCLIP = (1536, 2048)
"""Widths of the image states that SD 2.1 unCLIP reads, of its two sizes."""
SVD_SIZES, KOLORS_SIZES = 768, 5632
CHANNELS: Mapping[int, str] = MappingProxyType(
    {4: "base", 5: "depth", 7: "x4_upscaler", 8: "instruct_pix2pix", 9: "inpainting"}
)
"""Of the input: the latent alone, or with a depth map, an image to enlarge, an image to edit, a masked image."""

FOREIGN: tuple[tuple[str, str], ...] = (
    ("distilled_guidance_layer.", "chroma"),
    ("double_stream_modulation_img.", "flux2"),
    ("individual_token_refiner", "hunyuan_video"),
    ("double_blocks.", "flux"),
    ("single_transformer_blocks.", "flux"),
    ("mlp_t5.", "hunyuan_dit"),
    ("double_layers.", "auraflow"),
    ("joint_transformer_blocks.", "auraflow"),
    ("adaln_single.", "pixart"),
    ("\nt_block.", "pixart"),
    ("clip_txt_mapper.", "cascade"),
    ("clip_txt_pooled_mapper.", "cascade"),
    ("effnet_mapper.", "cascade"),
    ("cap_embedder.", "lumina"),
    ("caption_projection.", "pixart"),
    ("txt_norm.", "qwen_image"),
    ("prior_embedding", "unclip_prior"),
)
"""A part of a name that only the denoisers of one other family have, in the order in which they are looked for; behind
the end of a line, what a name begins with."""


class Denoiser(NamedTuple):
    family: str
    variant: str


def denoiser(seen: Seen) -> Denoiser | None:
    """None for what is no denoising network, or one of a family that nobody knows."""
    if seen.has("input_blocks.0.0.weight", "time_embed.0.weight"):
        return unet(seen, seen.extent("input_blocks.0.0.weight", 1), _added(seen, "label_emb.0.0.weight"))
    if seen.has("conv_in.weight", "time_embedding.linear_1.weight"):
        added = _added(seen, "add_embedding.linear_1.weight") or _added(seen, "class_embedding.linear_1.weight")
        return unet(seen, seen.extent("conv_in.weight", 1), added)
    return mmdit(seen) or foreign(seen)


def context(seen: Seen) -> int | None:
    """The width of the text states that a U-Net reads."""
    shape = seen.find(TO_K)
    return None if shape is None or len(shape) != 2 else shape[1]


def unet(seen: Seen, channels: int | None, added: int | None) -> Denoiser | None:
    """channels: of the input; added: width of what is added to the embedded time."""
    read = context(seen)
    if added == KOLORS_SIZES or seen.starts("encoder_hid_proj."):
        return Denoiser("kolors", "base")
    if seen.holds(".time_stack.", ".time_mixer.", ".temporal_transformer_blocks."):
        return Denoiser("svd", "base")
    if read == REFINER_CONTEXT and added == REFINER_SIZES:
        return Denoiser("sdxl", "refiner")
    family = CONTEXTS.get(read or 0, "ldm")
    variant = CHANNELS.get(channels or 0, f"{channels}_channels")
    if family == "ldm":
        return Denoiser(family, "base" if read is None else "text" if read == REFINER_CONTEXT else "conditioned")
    if family == "sd2" and added in UNCLIP:
        return Denoiser(family, "unclip")
    return Denoiser(family, _reduced(seen, family) or variant if variant == "base" else variant)


def _reduced(seen: Seen, family: str) -> str | None:
    """What was distilled: to fewer layers (SSD-1B, Vega, small and tiny SD), or to read the strength of guidance."""
    if seen.has("time_embedding.cond_proj.weight") or seen.has("time_embed.cond_proj.weight"):
        return "lcm"
    deepest = {"sdxl": 9}.get(family, 0)
    middle = ("middle_block.1.transformer_blocks.{}.", "mid_block.attentions.0.transformer_blocks.{}.")
    whole = seen.starts(*(name.format(deepest) for name in middle))
    return None if whole else "distilled"


def _added(seen: Seen, name: str) -> int | None:
    return seen.extent(name, 1)


def mmdit(seen: Seen) -> Denoiser | None:
    """The transformers of Stable Diffusion 3 in both layouts."""
    if seen.has("x_embedder.proj.weight") and seen.starts("joint_blocks."):
        width, blocks, dual = seen.extent("x_embedder.proj.weight", 0), "joint_blocks.{}.", ".attn2."
    elif seen.has("pos_embed.proj.weight") and seen.holds(".attn.add_q_proj."):
        width, blocks, dual = seen.extent("pos_embed.proj.weight", 0), "transformer_blocks.{}.", ".attn2."
    else:
        return None
    if seen.holds(dual):
        return Denoiser("sd3", "3.5-medium")
    normed = seen.holds(".ln_q.", ".norm_q.")
    return Denoiser("sd3", "3.5-large" if normed or width == LARGE or seen.count(blocks) > MEDIUM_BLOCKS else "medium")


LARGE, MEDIUM_BLOCKS = 2432, 24


def foreign(seen: Seen) -> Denoiser | None:
    """A denoiser of a family that is only known by name."""
    found = next((family for part, family in FOREIGN if seen.holds(part)), None)
    if found == "cascade":
        return Denoiser(found, "stage_b" if seen.starts("effnet_mapper.") else "stage_c")
    if found == "flux":
        return Denoiser(found, flux_variant(seen))
    return None if found is None else Denoiser(found, "base")


def flux_variant(seen: Seen) -> str:
    """Dev reads the strength of guidance, schnell does not; fill and canny or depth have more channels."""
    inputs = seen.extent("img_in.weight", 1) or seen.extent("x_embedder.weight", 1) or 0
    if inputs > FLUX_INPUTS:
        return "fill" if inputs == FLUX_FILL else "control"
    return "dev" if seen.holds("guidance_in.", "guidance_embedder.") else "schnell"


FLUX_INPUTS, FLUX_FILL = 64, 384
