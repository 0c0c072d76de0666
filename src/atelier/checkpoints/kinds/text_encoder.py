"""Text encoders alone: CLIP in transformers' and OpenCLIP's names, T5, and language models."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen, of_known_family
from atelier.checkpoints.kinds.checkpoint import has_denoiser

PREFIXES = (
    *(
        "",
        "text_encoder.",
        "text_encoder_2.",
        "text_encoder_3.",
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
BARE_CLIP = "embeddings.token_embedding.weight"
"""In files of recent transformers, and of the oldest; images have no tokens."""
OPEN_CLIP = r"transformer\.resblocks\.\d+\.ln_1\.weight"
T5_NAME = r"encoder\.block\.\d+\.layer\.0\.SelfAttention\.q\.weight"
UMT5_TOKENS = 256384
"""Tokens of the T5 of many languages, that Wan reads."""
TOGETHER: tuple[tuple[frozenset[str], Identity], ...] = (
    (frozenset({"clip_g", "t5xxl"}), Identity("text_encoder", "sd3", "clip_g")),
    (frozenset({"clip_l", "clip_g", "t5xxl"}), Identity("text_encoder", "sd3", "clip_l")),
    (frozenset({"clip_l", "clip_g"}), Identity("text_encoder", "sdxl", "clip_l", fits=("sd3",))),
    (frozenset({"clip_l", "t5xxl"}), Identity("text_encoder", "flux", "clip_l", fits=("sd3",))),
)
"""What several encoders in one file belong to."""
LANGUAGE = (
    (r"(?:[\w.]*\.)?layers\.0\.self_attn\.q_proj\.weight", "embed_tokens.weight", "language_model"),
    (r"(?:[\w.]*\.)?layers\.0\.self_attention\.query_key_value\.weight", "word_embeddings.weight", "language_model"),
    (r"(?:[\w.]*\.)?encoder\.layer\.0\.attention\.self\.query\.weight", "word_embeddings.weight", "bert"),
)
"""A layer of encoders that other families read, the end of the name of their words, and what they are."""


def recognise(seen: Seen) -> Identity | None:
    """The first of the encoders that a file holds names it; others are noted."""
    if has_denoiser(seen) or seen.starts("first_stage_model.", "vae.") or seen.holds("lora", "id_encoder."):
        return None
    found = [own for prefix in PREFIXES if (own := _at(seen, prefix)) is not None]
    if not found:
        return None
    others = tuple(dict.fromkeys(f"also holds {own.variant}" for own in found[1:]))
    held = frozenset(str(own.variant) for own in found)
    first = next((own for those, own in TOGETHER if those == held), found[0])
    family = "sdxl" if seen.starts("conditioner.embedders.") else first.family
    return Identity(first.kind, family, first.variant, first.fits, notes=others)


def _at(seen: Seen, prefix: str) -> Identity | None:
    if prefix and not seen.starts(prefix):
        return None
    inner = seen.below(prefix)
    width = inner.find(HF_CLIP)
    width = width or inner.find(OPEN_CLIP) or inner.shapes.get(BARE_CLIP)
    if width is not None:
        return CLIP.get(width[-1], Identity("text_encoder", None, f"clip_{width[-1]}"))
    query = inner.find(T5_NAME)
    if query is not None:
        return _of_t5(inner, T5.get(query[1], "t5"))
    for layer, words, variant in LANGUAGE:
        if inner.find(layer) is not None and inner.holds(f"{words}\n"):
            return Identity("text_encoder", None, variant)
    return None


def _of_t5(seen: Seen, size: str) -> Identity:
    if seen.extent("shared.weight", 0) == UMT5_TOKENS:
        return Identity("text_encoder", "wan", f"um{size}")
    if size != "t5xxl":
        return Identity("text_encoder", None, size)
    if seen.holds("\ndecoder.block."):
        return Identity(
            "text_encoder", "sd3", "t5xxl_whole", ("flux",), notes=("has T5's decoder, which nothing reads",)
        )
    return Identity("text_encoder", "sd3", size, fits=("flux",))


SPECS = (Kind("text_encoder", "text encoder alone", recognise, reads=of_known_family),)
