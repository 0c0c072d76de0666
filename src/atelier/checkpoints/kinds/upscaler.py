"""Upscalers and what mends faces: told by the names of layers that no other architecture has."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen
from atelier.families.parts import rrdbnet, srvgg

PREFIXES = ("", "generator.", "netG.", "params_ema.", "params.")
NAMES: tuple[tuple[str, str, str], ...] = (
    ("layers.0.residual_group.overlap_attn.", "upscaler", "hat"),
    ("layers.0.residual_group.blocks.0.norm1.weight", "upscaler", "swinir"),
    ("layers.0.residual_group.blocks.0.attn.", "upscaler", "swin2sr"),
    ("layers.0.blocks.0.gamma", "upscaler", "rgt"),
    ("layers.0.blocks.0.attn.", "upscaler", "dat"),
    ("layers.0.swin1.", "upscaler", "drct"),
    ("layers.0.residual_group.td", "upscaler", "atd"),
    ("feats.1.lk.", "upscaler", "plksr"),
    ("unet1.conv1.conv.0.", "upscaler", "real_cugan"),
    ("body.0.body.0.body.0.", "upscaler", "rcan"),
    ("m_body.0.trans_block.", "upscaler", "scunet"),
    ("block_1.c1_r.", "upscaler", "span"),
    ("residual_layer.0.residual_layer.", "upscaler", "omnisr"),
    ("stylegan_decoder.", "face_restorer", "gfpgan"),
    ("stylegan_decoderdotto_rgbs", "face_restorer", "gfpgan"),
    ("fuse_convs_dict.", "face_restorer", "codeformer"),
    ("encoder.mid.attn_1.norm1.", "face_restorer", "restoreformer"),
    ("cp.resnet.conv1.", "face_parser", "bisenet"),
    ("out_mask_conv.conv2d.", "face_parser", "parsenet"),
    ("LandmarkHead.0.", "face_detector", "retinaface"),
)
"""A name, the kind of network that has it, and which."""
BUILT_IN = ("esrgan", "compact")
"""The upscalers that are read without a further package."""


def recognise(seen: Seen) -> Identity | None:
    return _of_kind(seen, "upscaler")


def _of_kind(seen: Seen, kind: str) -> Identity | None:
    found = next((own for prefix in PREFIXES if (own := _at(seen.below(prefix)))), None)
    return found if found is not None and found.kind == kind else None


def _at(seen: Seen) -> Identity | None:
    if seen.starts("model.diffusion_model.", "input_blocks."):
        return None
    if rrdbnet.detect(seen.shapes):
        return Identity("upscaler", None, "esrgan")
    if srvgg.detect(seen.shapes):
        return Identity("upscaler", None, "compact")
    return next((Identity(kind, None, variant) for name, kind, variant in NAMES if seen.starts(name)), None)


SPECS = (
    Kind("upscaler", "upscaler", recognise, reads=lambda own: own.variant in BUILT_IN),
    Kind("face_restorer", "restorer of faces", lambda seen: _of_kind(seen, "face_restorer")),
    Kind("face_parser", "parser of faces", lambda seen: _of_kind(seen, "face_parser")),
    Kind("face_detector", "detector of faces", lambda seen: _of_kind(seen, "face_detector")),
)
