"""ControlNets in cldm's and diffusers' layouts, unions, LLLite, those of transformers, and Control-LoRAs."""

from __future__ import annotations

from atelier.checkpoints.denoisers import CONTEXTS, context, denoiser
from atelier.checkpoints.kind import BEYOND, Identity, Kind, Seen, of_known_family
from atelier.checkpoints.strangers import stranger

PREFIXES = ("control_model.", "controlnet.", "")
HINTS = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")
"""The first layer that reads the hint, in both layouts."""
SPARSE, XS = "controlnet_cond_embedding.weight", "control_to_base_for_conv_in."
"""Of those that read hints of some frames of a video (AnimateDiff's), and of those that the U-Net answers to."""
LORA_MARK = "lora_controlnet"
LLLITE = "lllite_"
SD3_WIDTHS = (1536, 2432)
MASKED = 17
"""Channels of a hint with a mask beside it."""
SMALL, MASK, STABILITY = "small", "mask", "3.5-large-stability"
UNREAD = (*BEYOND, MASK)
"""Variants that are not read: with a mask."""
UNIONS = {6: "union", 8: "union_promax"}
DOWN = r"(?:input_blocks|middle_block)\.[\w.]*\.down"
LORA_TO_K = r"(?:[\w.]*\.)?transformer_blocks\.0\.attn2\.to_k\.down"


def recognise(seen: Seen) -> Identity | None:
    if is_control_lora(seen):
        return None
    if seen.starts(LLLITE):
        return Identity("controlnet", _lllite_family(seen), "lllite")
    places = (seen.below(prefix) for prefix in PREFIXES if not prefix or seen.starts(prefix))
    return next((own for inner in places if (own := _at(seen, inner)) is not None), None)


def _at(seen: Seen, inner: Seen) -> Identity | None:
    """inner: what lies behind a prefix."""
    if inner.has(SPARSE) and inner.starts("controlnet_down_blocks."):
        return Identity("controlnet", CONTEXTS.get(context(inner) or 0), "sparse")
    if inner.starts(XS):
        return Identity("controlnet", CONTEXTS.get(context(inner) or 0), "xs")
    if inner.starts("controlnet_blocks.", "controlnet_x_embedder."):
        return Identity("controlnet", *_of_transformer(inner))
    return _of_unet(seen, inner) if any(hint in inner.shapes for hint in HINTS) else None


def is_control(seen: Seen) -> bool:
    return recognise(seen) is not None or is_control_lora(seen)


def _of_unet(seen: Seen, inner: Seen) -> Identity:
    found = denoiser(inner)
    family = None if found is None or found.family == "ldm" else found.family
    tasks = inner.extent("task_embedding", 0) if inner.starts("control_add_embedding.") else None
    small = found is not None and found.variant == "distilled"
    variant = UNIONS.get(tasks, "union") if tasks is not None else SMALL if small else "base"
    told = [
        ("holds a whole model beside it", seen.starts("model.diffusion_model.")),
        ("holds differences from its model's weights", seen.has("difference")),
    ]
    return Identity("controlnet", family, variant, notes=tuple(note for note, true in told if true))


def _lllite_family(seen: Seen) -> str:
    """SDXL's names count blocks of several layers."""
    return "sdxl" if seen.holds("transformer_blocks_1_") or seen.holds("input_blocks_8_1_") else "sd1"


def _of_transformer(seen: Seen) -> tuple[str, str]:
    other = stranger(seen)
    if other not in {None, "flux"}:
        return str(other), "base"
    if other == "flux" or seen.starts("controlnet_x_embedder."):
        return "flux", "union" if seen.starts("controlnet_mode_embedder.") else "base"
    width = seen.extent("pos_embed_input.proj.weight", 0) or seen.extent("pos_embed.proj.weight", 0)
    if seen.holds("transformer_blocks.0.adaLN_modulation."):
        return "sd3", STABILITY
    masked = (seen.extent("pos_embed_input.proj.weight", 1) or 0) == MASKED
    return "sd3", MASK if masked else "3.5-large" if width == max(SD3_WIDTHS) else "medium"


def is_control_lora(seen: Seen) -> bool:
    """Low-rank changes of a U-Net's encoder, with the layers of a ControlNet that the U-Net has not."""
    marked = seen.has(LORA_MARK)
    return marked or (seen.has(HINTS[0]) and seen.find(DOWN) is not None) or _is_flux_control(seen)


def _is_flux_control(seen: Seen) -> bool:
    """A LoRA that also widens the input of Flux by a hint."""
    return (seen.extent("img_in.lora_A.weight", 1) or 0) > FLUX_INPUTS


FLUX_INPUTS = 64


def control_lora(seen: Seen) -> Identity | None:
    if not is_control_lora(seen):
        return None
    if _is_flux_control(seen):
        return Identity("control_lora", "flux", f"rank_{seen.extent('img_in.lora_A.weight', 0)}")
    down, to_k = seen.find(DOWN), seen.find(LORA_TO_K)
    family = "sdxl" if to_k is None else {768: "sd1", 1024: "sd2", 2048: "sdxl"}.get(to_k[1])
    return Identity("control_lora", family, "base" if down is None else f"rank_{down[0]}")


def _reads(own: Identity) -> bool:
    """Those of U-Nets of any width, whose family their shapes do not tell, and those of families that are known."""
    return own.variant not in UNREAD and (own.family is None or of_known_family(own))


SPECS = (
    Kind("controlnet", "ControlNet", recognise, reads=_reads),
    Kind("control_lora", "Control-LoRA", control_lora, reads=_reads),
)
