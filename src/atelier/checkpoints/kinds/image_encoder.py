"""Encoders of images: CLIP's vision towers in transformers' and OpenCLIP's names, SigLIP, and the judge of safety."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen

WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h", 1408: "vit_g14", 1664: "vit_g", 1152: "siglip"}
"""By width of the states; vit_g is the one of OpenCLIP that is called bigG."""
NAMES = (
    r"vision_model\.encoder\.layers\.\d+\.layer_norm1\.weight",
    r"visual\.transformer\.resblocks\.\d+\.ln_1\.weight",
)
BARE, PATCHES = r"encoder\.layers\.\d+\.layer_norm1\.weight", "embeddings.patch_embedding.weight"
"""Those of recent transformers, which text towers have as well, and what only towers of images have."""
DINO = r"(?:encoder\.layer\.0\.layer_scale1\.lambda1|blocks\.0\.ls1\.gamma)"
OTHER = ("siglip", "dinov2", "effnet")
"""Variants that no network here reads."""


def recognise(seen: Seen) -> Identity | None:
    if seen.starts("text_model.", "transformer.resblocks.", "model.diffusion_model.") or is_checker(seen):
        return None
    names = (*NAMES, BARE) if seen.has(PATCHES) else NAMES
    width = next((found for name in names if (found := seen.find(name))), None)
    if width is None:
        return _of_others(seen)
    return Identity("image_encoder", None, WIDTHS.get(width[0], f"vit_{width[0]}"))


def _of_others(seen: Seen) -> Identity | None:
    """DINOv2's, and what Stable Cascade makes of an image to start from."""
    if seen.find(DINO) is not None:
        return Identity("image_encoder", None, "dinov2")
    effnet = seen.starts("backbone.1.0.block.") and seen.starts("mapper.")
    return Identity("image_encoder", "cascade", "effnet") if effnet else None


def is_checker(seen: Seen) -> bool:
    return seen.has("concept_embeds", "special_care_embeds") or seen.holds("concept_embeds_weights")


def checker(seen: Seen) -> Identity | None:
    return Identity("safety_checker", "sd1", "clip_l", fits=("sd2",)) if is_checker(seen) else None


SPECS = (
    Kind("image_encoder", "image encoder alone", recognise, reads=lambda own: own.variant not in OTHER),
    Kind("safety_checker", "safety checker", checker),
)
