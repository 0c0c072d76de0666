"""Units of ControlNet's inpaint modules: which image their hint is of, and what of it is left out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from atelier.api.sdapi.at import At
from atelier.registry import folded
from atelier.request.events import Json

HARMONIOUS = "inpaint global harmonious"
"""The module of which A1111 keeps nothing as it was, folded."""
UPLOAD = "upload:"
NOTHING: Mapping[str, Json] = MappingProxyType({})
NO_IMAGES: Mapping[str, str] = MappingProxyType({})


class Filled(NamedTuple):
    """fields: of the request, where the unit brings the image to start from; images: base64 by what stands for them;
    shown: what stands for the image that its map is drawn of, "" for that of the request."""

    fields: Mapping[str, Json] = NOTHING
    images: Mapping[str, str] = NO_IMAGES
    shown: str = ""


def filled(module: str, image: str, mask: str, at: At, start: Mapping[str, str]) -> Filled:
    """A text to image that such a unit steers is one of the unit's image, generated anew under its mask; the rest stays
    as it was. An image to image has its own of both, and may send them again. Raises Refused."""
    if "image" in start:
        _check_same(image, mask, at, start)
        return Filled()
    if not image:
        raise at.bad("image", "there is none to leave something out of")
    if not mask:
        raise at.bad("mask", "there is none: send what is to be made anew in white, of the size of the image")
    if folded(module) == HARMONIOUS:
        raise at.bad("module", f"{module[:60]!r} works in img2img here; inpaint_only works in txt2img too")
    fields: dict[str, Json] = {"image": UPLOAD + at.image("image"), "mask": UPLOAD + at.image("mask")}
    fields |= {"denoising_strength": 1.0, "inpaint_area": "Whole picture"}
    return Filled(fields, {at.image("image"): image, at.image("mask"): mask}, str(fields["image"]))


def _check_same(image: str, mask: str, at: At, start: Mapping[str, str]) -> None:
    """Raises Refused for an image or a mask beside those of the request."""
    if "mask" not in start:
        raise at.bad("mask", "the request has none: what it shows in white is left out of the hint")
    for name, given in (("image", image), ("mask", mask)):
        if given and bare(given) != bare(start[name]):
            raise at.bad(name, f"another {name} than that of the request is not taken: leave it out")


def bare(data: str) -> str:
    """Base64 without what a data URL begins with."""
    return data.rpartition(",")[2]
