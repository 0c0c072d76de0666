"""A1111's preprocessors, which it calls modules: which annotators they are, and which are not done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from atelier.api.service import AnnotatorEntry, Catalogue, OptionEntry
from atelier.registry import folded
from atelier.request.controls import RESOLUTION, RESOLUTIONS

UNSET = -1
"""A1111's word for a number of the annotator's own."""
IMAGE_PROMPTS = (
    "ip-adapter-auto",
    "ip-adapter_clip_sd15",
    "ip-adapter_clip_sdxl",
    "ip-adapter_clip_sdxl_plus_vith",
    "ip-adapter_clip_h",
    "ip-adapter_clip_g",
)
"""Modules that read an image as a prompt: which encoder of images does, the file of the network says."""
FACE_MODULES = ("ip-adapter_face_id", "ip-adapter_face_id_plus", "instant_id_face_embedding")
"""Modules that read a face: which networks read it, the file of the network says."""
KEYPOINTS = "instant_id_face_keypoints"
"""The module of a unit whose ControlNet says where the face of another unit is."""
_PROMPT = "it is not done here; an IP-Adapter reads an image as a prompt"
INPAINT = "inpaint_only"
"""The annotator that leaves out of a hint what a mask shows."""
INPAINTS = frozenset({"inpaint", "inpaint only", "inpaint global harmonious"})
"""What A1111 calls it, folded; the last keeps nothing of an image as it was."""
EXAMPLE = "reference_only"
"""The module that lets a model look at an image while it denoises: it needs no network."""
NO_SLIDERS = frozenset({"lineart_standard"})
"""Annotators of which A1111 sets no numbers, whatever is sent."""
NOT_HERE: Mapping[str, str] = MappingProxyType(
    {
        "reference adain": f"statistics of an image are not carried over here; {EXAMPLE} lets the model look at it",
        "inpaint only+lama": "there is no LaMa here; inpaint_only makes the hidden part from noise",
        "revision": _PROMPT,
        "clip vision": _PROMPT,
        "t2ia style": _PROMPT,
        "ip adapter pulid": "PuLID is not done here; FaceID and InstantID read faces",
    }
)
"""What modules begin with, folded, that are known and not done, and why."""


def not_here(module: str) -> str:
    """Why a module is not done; "" for others."""
    name = folded(module)
    return next((why for beginning, why in NOT_HERE.items() if name.startswith(beginning)), "")


def fills(module: str) -> bool:
    """Whether a module leaves out of its hint what a mask shows."""
    return folded(module) in INPAINTS


def is_example(module: str) -> bool:
    return folded(module) == folded(EXAMPLE)


def is_image_prompt(module: str) -> bool:
    return folded(module) in map(folded, IMAGE_PROMPTS)


def is_face(module: str) -> bool:
    return folded(module) in map(folded, FACE_MODULES)


def find_annotator(catalogue: Catalogue, module: str) -> AnnotatorEntry | None:
    """The annotator that a module is, by any of its names."""
    wanted = folded(module) or "none"
    for entry in catalogue.annotators:
        if wanted in map(folded, (entry.name, *entry.aliases)):
            return entry
    return None


def resolution(said: int) -> int:
    """What an annotator sees: A1111 takes its default for what cannot be."""
    low, high = RESOLUTIONS
    return said if low <= said <= high else RESOLUTION


def sliders(maker: AnnotatorEntry) -> tuple[OptionEntry, ...]:
    """The options that A1111's two numbers are, as far as its module of this name has any."""
    return () if maker.name in NO_SLIDERS else maker.options[:2]


def thresholds(maker: AnnotatorEntry, given: Mapping[str, float]) -> Iterator[tuple[str, OptionEntry, float]]:
    """A1111's two numbers with the options that they are: -1 is the annotator's own, and those that it does not have
    are nothing."""
    for (name, value), option in zip(given.items(), sliders(maker), strict=False):
        if value != UNSET:
            yield name, option, value
