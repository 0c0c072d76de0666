"""Tiny autoencoders (TAESD and its kin): a chain of counted layers, encoder or decoder or both."""

from __future__ import annotations

import re

from atelier.checkpoints.kind import Identity, Kind, Seen, of_known_family

BLOCK = re.compile(r"\n((?:taesd_|encoder\.|decoder\.|layers\.)*)(\d+)\.conv\.0\.weight\n")
WIDE, NARROW = 16, 4


def recognise(seen: Seen) -> Identity | None:
    if BLOCK.search(seen.text) is None or not seen.holds(".conv.4."):
        return None
    encoder, decoder = _channels(seen, first=False), _channels(seen, first=True)
    channels = encoder or decoder
    if channels not in {WIDE, NARROW}:
        return None
    variant = "both" if encoder and decoder else "encoder" if encoder else "decoder"
    if channels == WIDE:
        return Identity("tiny_vae", "sd3", variant, fits=("flux",))
    return Identity("tiny_vae", "sd1", variant, fits=("sd2", "sdxl"))


def _channels(seen: Seen, *, first: bool) -> int | None:
    """Channels of the latent: of a decoder's first layer, or of an encoder's last."""
    for shape in seen.shapes.values():
        if len(shape) == 4 and shape[2:] == (3, 3):
            inner, outer = (shape[0], shape[1]) if first else (shape[1], shape[0])
            if inner == 64 and outer in {WIDE, NARROW}:
                return outer
    return None


SPECS = (Kind("tiny_vae", "tiny autoencoder", recognise, reads=of_known_family),)
