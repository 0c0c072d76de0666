"""Textual inversions and hypernetworks, in the forms of A1111, kohya and diffusers."""

from __future__ import annotations

import re

from atelier.checkpoints.kind import Identity, Kind, Seen, Shape, of_known_family

FAMILIES = {768: "sd1", 1024: "sd2", 1280: "sdxl", 4096: "sd3"}
"""By width of a vector; SDXL and SD 3 have several."""
KEYS = ("emb_params", "clip_l", "clip_g", "t5xxl", "t5", "text_encoders_0", "text_encoders_1")
PARAMETER = "string_to_param."
MOST_TOKENS, MOST_VECTORS = 128, 1000
HYPER = re.compile(r"\n(\d+)\.[01]\.linear(?:\.?\d+)\.weight\n")
HYPER_FAMILIES = {"1024": "sd2", "2048": "sdxl"}
"""By the widths of text states that a hypernetwork changes; the others of its widths are the U-Net's own."""


def recognise(seen: Seen) -> Identity | None:
    found = {name: shape for name, shape in seen.shapes.items() if name.startswith(PARAMETER) or name in KEYS}
    tokens = not found and _are_tokens(seen)
    vectors = list((seen.shapes if tokens else found).values())
    widths = {shape[-1] for shape in vectors if shape}
    if not vectors or not widths <= FAMILIES.keys() or not all(_is_vector(shape) for shape in vectors):
        return None
    family = "sd3" if 4096 in widths else "sdxl" if 1280 in widths else FAMILIES[max(widths)]
    count = max(1 if len(shape) == 1 else shape[0] for shape in vectors)
    form = "tokens" if tokens else "a1111" if seen.starts(PARAMETER) else "plain"
    return Identity("embedding", family, form, notes=(f"has {count} vector{'' if count == 1 else 's'}",))


def _are_tokens(seen: Seen) -> bool:
    """diffusers calls each tensor as its token: few, and named as no layer is."""
    return len(seen.shapes) <= MOST_TOKENS and not any("." in name for name in seen.shapes)


def _is_vector(shape: Shape) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and 0 < shape[0] <= MOST_VECTORS)


def hypernetwork(seen: Seen) -> Identity | None:
    widths = HYPER.findall(seen.text)
    if not widths:
        return None
    family = next((HYPER_FAMILIES[width] for width in widths if width in HYPER_FAMILIES), "sd1")
    return Identity("hypernetwork", family, seen.metadata.get("activation_func") or "linear")


SPECS = (
    Kind("embedding", "textual inversion", recognise, reads=of_known_family),
    Kind("hypernetwork", "hypernetwork", hypernetwork, reads=of_known_family),
)
