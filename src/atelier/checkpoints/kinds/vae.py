"""Autoencoders alone, in both layouts and in diffusers' older names."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen, of_known_family

PREFIXES = ("", "first_stage_model.", "vae.")
LEVELS = ("encoder.down.{}.block.", "encoder.down_blocks.{}.resnets.")
LATENT, WIDE_LATENT, LEAST_LATENT = 4, 16, 3
STABLE_LEVELS, X4_LEVELS = 4, 3


def recognise(seen: Seen) -> Identity | None:
    if seen.starts("model.diffusion_model."):
        return None
    for prefix in PREFIXES:
        inner = seen.below(prefix) if not prefix or seen.starts(prefix) else Seen({})
        if inner.has("encoder.conv_in.weight", "decoder.conv_in.weight") and _is_autoencoder(inner):
            return _identity(inner)
    return None


def _is_autoencoder(seen: Seen) -> bool:
    """Not a restorer of faces, which has a norm of another name."""
    return seen.starts(*(level.format(0) for level in LEVELS)) and not seen.holds("attn_1.norm1.")


def _identity(seen: Seen) -> Identity:
    levels = max(seen.count(level) for level in LEVELS)
    channels = seen.extent("decoder.conv_in.weight", 1) or 0
    if seen.starts("quantize."):
        return Identity("vae", "ldm", f"vq-f{2 ** (levels - 1)}")
    if seen.extent("encoder.conv_in.weight", 1) != 3 or len(seen.shapes["encoder.conv_in.weight"]) != 4:
        return Identity("vae", None, "other", notes=("encodes something else than colour images",))
    if channels == WIDE_LATENT:
        own = seen.has("quant_conv.weight")
        return Identity("vae", None, "kl-16") if own else Identity("vae", "sd3", "base", fits=("flux",))
    if channels == LATENT and levels == STABLE_LEVELS:
        return Identity("vae", "sd1", "base", fits=("sd2", "sdxl"))
    if channels == LATENT and levels == X4_LEVELS:
        return Identity("vae", "sd2", "x4_upscaler")
    return Identity("vae", "ldm", f"kl-f{2 ** (levels - 1)}")


SPECS = (Kind("vae", "autoencoder alone", recognise, reads=of_known_family),)
