"""Autoencoders alone, in both layouts and in diffusers' older names."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen, of_known_family
from atelier.checkpoints.kinds.checkpoint import has_denoiser
from atelier.checkpoints.strangers import strange_autoencoder

PREFIXES = ("", "first_stage_model.", "vae.")
LEVELS = ("encoder.down.{}.block.", "encoder.down_blocks.{}.resnets.")
LATENT, WIDE_LATENT, LEAST_LATENT = 4, 16, 3
STABLE_LEVELS, X4_LEVELS = 4, 3
HALVES = ("encoder", "decoder")
BEGINS = {"encoder": "down.0.block.", "decoder": "up.0.block."}
DEEP = {"encoder": "down_blocks.0.resnets.", "decoder": "up_blocks.0.resnets."}
"""What the layers of the levels are called in each half, in both layouts."""


def recognise(seen: Seen) -> Identity | None:
    if has_denoiser(seen):
        return None
    for prefix in PREFIXES:
        inner = seen.below(prefix) if not prefix or seen.starts(prefix) else Seen({})
        found = _at(inner)
        if found is not None:
            return found
    return None


def _at(seen: Seen) -> Identity | None:
    other = strange_autoencoder(seen) if seen.starts("encoder.", "decoder.") else None
    if other is not None:
        return Identity("vae", other, "base", fits=("qwen_image",) if other == "wan" else ())
    if seen.has("encoder.conv_in.weight") and seen.starts("decoder_unet."):
        return Identity("vae", "sd1", "consistency")
    if seen.has("encoder.conv_in.weight", "decoder.conv_in.weight") and _is_autoencoder(seen):
        return _identity(seen)
    return _half(seen)


def _half(seen: Seen) -> Identity | None:
    """A decoder without its encoder, or the other way round."""
    whole = next((half for half in HALVES if seen.starts(f"{half}.{BEGINS[half]}", f"{half}.{DEEP[half]}")), None)
    if whole is None or len(seen.heads & {"encoder.", "decoder."}) != 1 or not seen.has(f"{whole}.conv_in.weight"):
        return None
    channels = seen.extent("decoder.conv_in.weight", 1)
    family = {LATENT: "sd1", WIDE_LATENT: "sd3"}.get(channels or 0)
    return Identity("vae", family, "half", notes=(f"is the {whole} alone",))


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
    return _of_four(seen, levels) if channels == LATENT else Identity("vae", "ldm", f"kl-f{2 ** (levels - 1)}")


def _of_four(seen: Seen, levels: int) -> Identity:
    """Of four channels in the latent."""
    if seen.starts("decoder.condition_encoder."):
        return Identity("vae", "sd1", "asymmetric", fits=("sd2",))
    if levels == STABLE_LEVELS:
        return Identity("vae", "sd1", "base", fits=("sd2", "sdxl"))
    return (
        Identity("vae", "sd2", "x4_upscaler")
        if levels == X4_LEVELS
        else Identity("vae", "ldm", f"kl-f{2 ** (levels - 1)}")
    )


SPECS = (Kind("vae", "autoencoder alone", recognise, reads=of_known_family),)
