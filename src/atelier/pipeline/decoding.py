"""From latents to images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from atelier.checkpoints.preview import RgbMatrix
from atelier.errors import NotFinite
from atelier.families.facts import LatentFormat
from atelier.models.taesd import TinyAutoencoder
from atelier.models.vae import AutoencoderKL
from atelier.models.vae_strips import decode_in_strips, encode_in_strips, whole_bytes
from atelier.nn.seamless import EDGES, Seamless
from atelier.request.resolved import VaeStrips
from atelier.weights.archive import counted

MOST_BYTES = 2**32
"""What the autoencoder may need for an image in one piece. A fixed number, not what the machine has, so that a request
is the same image everywhere: in fp32 1182x1182 pixels, in half precision 1672x1672."""
THUMBNAIL = 16
"""Latent positions along the longer side of what is decoded for a preview."""
SKETCH = 64
"""The same for a tiny autoencoder."""
Decoder = AutoencoderKL | TinyAutoencoder


def decode(
    latent: Tensor, vae: Decoder, format_: LatentFormat, seamless: Seamless = EDGES, strips: VaeStrips = "auto"
) -> Image.Image:
    """One image from its latent (C, h, w). strips: whether it is made strip by strip. Raises NotFinite."""
    weight = next(vae.parameters())
    sides = latent.shape[1] * format_.factor, latent.shape[2] * format_.factor
    raw = format_.unscaled(latent[None]).to(weight)
    if isinstance(vae, AutoencoderKL) and _is_cut(strips, vae, sides, weight.dtype):
        pixels = decode_in_strips(vae, raw, seamless)[0].float()
    else:
        pixels = vae.decode(raw, seamless)[0].float()
    if not bool(pixels.isfinite().all()):
        raise not_finite("the decoded image", weight.dtype, vae)
    values = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


def encode_image(
    image: Image.Image,
    vae: AutoencoderKL,
    format_: LatentFormat,
    seamless: Seamless = EDGES,
    strips: VaeStrips = "auto",
) -> Tensor:
    """The latent (1, C, h, w) of an image (RGB) whose sides are multiples of the factor, float32: the most likely one.

    strips: whether it is read strip by strip. Raises NotFinite.
    """
    return encode_pixels(pixels_of(image), vae, format_, seamless, strips)


def pixels_of(image: Image.Image) -> Tensor:
    """An image (RGB) as (1, 3, H, W), -1 to 1."""
    return torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def encode_pixels(
    pixels: Tensor,
    vae: AutoencoderKL,
    format_: LatentFormat,
    seamless: Seamless = EDGES,
    strips: VaeStrips = "auto",
) -> Tensor:
    """The same of pixels (1, 3, H, W), -1 to 1."""
    weight = next(vae.parameters())
    sides = pixels.shape[2], pixels.shape[3]
    is_cut = _is_cut(strips, vae, sides, weight.dtype)
    pixels = pixels.to(weight)
    found = encode_in_strips(vae, pixels, seamless) if is_cut else vae.encode(pixels, seamless)
    latent = format_.scaled(found.mode().float())
    if not bool(latent.isfinite().all()):
        raise not_finite("the encoded image", weight.dtype, vae)
    return latent


def _is_cut(strips: VaeStrips, vae: AutoencoderKL, sides: tuple[int, int], dtype: torch.dtype) -> bool:
    if strips == "auto":
        return whole_bytes(vae.spec, sides, dtype) > MOST_BYTES
    return strips == "always"


def thumbnail(clean: Tensor, vae: AutoencoderKL, format_: LatentFormat) -> Image.Image:
    """A small image of a latent (C, h, w), decoded from at most THUMBNAIL x THUMBNAIL positions of it."""
    shrink = max(1, -(-max(clean.shape[1:]) // THUMBNAIL))
    return decode(F.avg_pool2d(clean, shrink, ceil_mode=True), vae, format_)


def sketched(clean: Tensor, tiny: TinyAutoencoder, format_: LatentFormat) -> Image.Image:
    """An image of a latent (C, h, w), of at most SKETCH x SKETCH positions of it, as a tiny autoencoder sees it."""
    shrink = max(1, -(-max(clean.shape[1:]) // SKETCH))
    return decode(F.avg_pool2d(clean, shrink, ceil_mode=True), tiny, seen_by(tiny, format_))


def seen_by(vae: Decoder, format_: LatentFormat) -> LatentFormat:
    """What an autoencoder's latents are: a tiny one reads them as the denoiser does."""
    return replace(format_, scale=1.0, shift=0.0) if isinstance(vae, TinyAutoencoder) else format_


def rough(clean: Tensor, matrix: RgbMatrix) -> Image.Image:
    """A latent (C, h, w) as an image of as many pixels as it has positions, which costs nothing."""
    weight = clean.new_tensor(matrix.rows).float()
    colours = torch.einsum("chw,ck->hwk", clean.float(), weight[:-1]) + weight[-1]
    return Image.fromarray((colours.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().cpu().numpy())


def not_finite(what: str, dtype: torch.dtype, network: object = None) -> NotFinite:
    """The error that says what left the finite numbers in a network of that precision, and the way out; it names the
    weights of a module that are no numbers."""
    known = network.state_dict() if isinstance(network, nn.Module) else {}
    bad = [name for name, tensor in known.items() if not bool(tensor.isfinite().all())]
    if bad:
        return NotFinite(f"{what} is not finite; the model's weights are damaged: {counted(bad)}; get the file again")
    if dtype != torch.float32:
        return NotFinite(f"{what} is not finite; ATELIER_DTYPE=fp32 computes in full precision")
    if not known:
        return NotFinite(f"{what} is not finite; the model's weights are damaged")
    ways = "lower cfg_scale or the strengths of LoRAs, or look for NaN with `atelier models inspect FILE --check`"
    return NotFinite(f"{what} is not finite, though the network's weights are: {ways}")
