"""Which family a denoising network is of, from the names and shapes of its tensors without what stands before them.

U-Nets are told by the width of the text states that they read and by their channels; the sizes are those of the
published models. Transformers are told by names that no other has.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from atelier.checkpoints.kind import Seen
from atelier.checkpoints.strangers import stranger

TO_K = r"(?:[\w.]*\.)?transformer_blocks\.0\.attn2\.to_k\.weight"
CONTEXTS: Mapping[int, str] = MappingProxyType({768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "ldm"})
"""Width of the text states that a U-Net reads, and the family that has it."""
REFINER_CONTEXT, REFINER_SIZES = 1280, 2560
UNCLIP = (1536, 2048)
"""Widths of the image states that SD 2.1 unCLIP reads, of its two sizes."""
XL_SIZES, KOLORS_SIZES = 2816, 5632
"""Widths of what XL and Kolors add to the embedded time: a pooled text state and six embedded numbers."""
CHANNELS: Mapping[int, str] = MappingProxyType(
    {4: "base", 5: "depth", 7: "x4_upscaler", 8: "instruct_pix2pix", 9: "inpainting"}
)
"""Of the input: the latent alone, or with a depth map, an image to enlarge, an image to edit, a masked image."""


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
    return foreign(seen) or mmdit(seen)


def context(seen: Seen) -> int | None:
    """The width of the text states that a U-Net reads."""
    shape = seen.find(TO_K)
    return None if shape is None or len(shape) != 2 else shape[1]


def unet(seen: Seen, channels: int | None, added: int | None) -> Denoiser | None:
    """channels: of the input; added: width of what is added to the embedded time."""
    read, other = context(seen), _other(seen, channels, added)
    if other is not None:
        return Denoiser(other, "base")
    if read == REFINER_CONTEXT and added == REFINER_SIZES:
        return Denoiser("sdxl", "refiner")
    family = CONTEXTS.get(read or 0, "sdxl" if read is None and added == XL_SIZES else "ldm")
    variant = CHANNELS.get(channels or 0, f"{channels}_channels")
    if family == "ldm":
        return Denoiser(family, "base" if read is None else "text" if read == REFINER_CONTEXT else "conditioned")
    if family == "sd2" and added in UNCLIP:
        return Denoiser(family, "unclip")
    return Denoiser(family, _reduced(seen, family) or variant if variant == "base" else variant)


def _other(seen: Seen, channels: int | None, added: int | None) -> str | None:
    """The family of a U-Net that is none of Stable Diffusion's: for other text encoders, for pixels, for videos."""
    if added == KOLORS_SIZES:
        return "kolors"
    if seen.starts("encoder_hid_proj.image_embeds.", "encoder_hid_proj.projection_linear."):
        return "kandinsky"
    if seen.starts("encoder_hid_proj.weight", "add_embedding.pool."):
        return "deepfloyd" if channels in PIXELS else "kolors"
    if seen.holds(".time_stack.", ".time_mixer.", ".temporal_transformer_blocks."):
        return "svd"
    return "modelscope" if seen.holds(".temp_convs.", ".temopral_conv.") else None


PIXELS = (3, 6)
"""Channels of what DeepFloyd's U-Nets read: pixels, in the later stages beside those of a smaller image."""


def _reduced(seen: Seen, family: str) -> str | None:
    """What was changed: distilled to fewer layers (SSD-1B, Vega, small and tiny SD), given layers that join the frames
    of a video, or distilled to read the strength of guidance."""
    deepest = {"sdxl": 9}.get(family, 0)
    middle = ("middle_block.1.transformer_blocks.{}.", "mid_block.attentions.0.transformer_blocks.{}.")
    if not seen.starts(*(name.format(deepest) for name in middle)):
        return "distilled"
    if seen.holds("motion_modules."):
        return "motion"
    return "lcm" if seen.has("time_embedding.cond_proj.weight") or seen.has("time_embed.cond_proj.weight") else None


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
    found = stranger(seen)
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
