"""Text encoders alone: CLIP in transformers' and OpenCLIP's names, T5, and language models."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen, of_known_family

PREFIXES = (
    *(
        "",
        "text_encoder.",
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "transformer.",
        "text_encoders.",
    ),
    *("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.", "conditioner.embedders.0.model."),
    *("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.", "text_encoders.t5xxl.transformer."),
)
CLIP = {
    768: Identity("text_encoder", "sd1", "clip_l", fits=("sdxl", "sd3", "flux")),
    1024: Identity("text_encoder", "sd2", "clip_h"),
    1280: Identity("text_encoder", "sdxl", "clip_g", fits=("sd3",)),
}
"""By width of the states."""
T5 = {4096: "t5xxl", 2048: "t5xl", 1024: "t5_large", 768: "t5_base", 512: "t5_small"}
HF_CLIP = r"text_model\.(?:embeddings\.token_embedding|final_layer_norm|encoder\.layers\.\d+\.layer_norm1)\.weight"
OPEN_CLIP = r"transformer\.resblocks\.\d+\.ln_1\.weight"
T5_NAME = r"encoder\.block\.\d+\.layer\.0\.SelfAttention\.q\.weight"


def recognise(seen: Seen) -> Identity | None:
    """The first of the encoders that a file holds names it; others are noted."""
    if seen.starts("model.diffusion_model.", "first_stage_model.", "vae.") or seen.holds("lora", "id_encoder."):
        return None
    found = [own for prefix in PREFIXES if (own := _at(seen, prefix)) is not None]
    if not found:
        return None
    others = tuple(dict.fromkeys(f"also holds {own.variant}" for own in found[1:]))
    first = found[0]
    family = "sdxl" if seen.starts("conditioner.embedders.") else first.family
    return Identity(first.kind, family, first.variant, first.fits, notes=others)


def _at(seen: Seen, prefix: str) -> Identity | None:
    if prefix and not seen.starts(prefix):
        return None
    inner = seen.below(prefix)
    width = inner.find(HF_CLIP)
    width = width or inner.find(OPEN_CLIP)
    if width is not None:
        return CLIP.get(width[-1], Identity("text_encoder", None, f"clip_{width[-1]}"))
    query = inner.find(T5_NAME)
    if query is not None and not inner.holds("decoder.block."):
        name = T5.get(query[1], "t5")
        return Identity("text_encoder", "sd3", name, fits=("flux",)) if name == "t5xxl" else _other(name)
    if inner.has("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"):
        return _other("language_model")
    return None


def _other(variant: str) -> Identity:
    return Identity("text_encoder", None, variant)


SPECS = (Kind("text_encoder", "text encoder alone", recognise, reads=of_known_family),)
