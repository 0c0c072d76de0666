"""The types of controls: what their files are called, and what makes their hints.

The types are those of A1111's ControlNet extension, whose clients ask for them by name (docs/compatibility/a1111.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from atelier.registry import folded


@dataclass(frozen=True, slots=True)
class ControlType:
    """title: what A1111 calls it; words: of which one stands in the names of its files, or is what A1111 calls the
    type of a union; annotators: that draw what it
    reads, the usual one first; union: its place in the embedding of a union of ControlNets, as the author of those
    numbers them, None for what they do not tell apart."""

    name: str
    title: str
    words: tuple[str, ...]
    annotators: tuple[str, ...]
    union: int | None = None

    def is_called(self, name: str) -> bool:
        """Whether a name is its own, and not one of its annotators'."""
        return folded(name) in map(folded, (self.name, self.title, *self.words))


POSES = ("openpose", "dw_openpose_full", "openpose_hand", "openpose_face", "openpose_faceonly")
_TYPES = (
    ControlType("canny", "Canny", ("canny", "hard edge"), ("canny", "invert"), union=3),
    ControlType("depth", "Depth", ("depth",), ("depth", "depth_anything"), union=1),
    ControlType("normal", "NormalMap", ("normal", "normal map"), ("normal_bae", "normal_midas"), union=4),
    ControlType("openpose", "OpenPose", ("openpose", "pose"), POSES, union=0),
    ControlType("mlsd", "MLSD", ("mlsd",), ("mlsd", "invert"), union=3),
    ControlType(
        "lineart", "Lineart", ("lineart",), ("lineart_standard", "lineart", "lineart_anime", "invert"), union=3
    ),
    ControlType("softedge", "SoftEdge", ("softedge", "soft edge", "hed"), ("hed", "pidinet"), union=2),
    ControlType(
        "scribble",
        "Scribble",
        ("scribble", "sketch"),
        ("scribble_xdog", "scribble_hed", "scribble_pidinet", "invert"),
        union=2,
    ),
    ControlType("segmentation", "Segmentation", ("seg",), ("seg_ofade20k", "seg_ufade20k", "seg_labels"), union=5),
    ControlType("shuffle", "Shuffle", ("shuffle",), ("shuffle",)),
    ControlType("tile", "Tile", ("tile", "blur"), ("tile_resample", "blur_gaussian"), union=6),
    ControlType("inpaint", "Inpaint", ("inpaint",), ("inpaint_only",), union=7),
    ControlType("ip2p", "InstructP2P", ("ip2p",), ("none",)),
    ControlType("recolor", "Recolor", ("recolor",), ("recolor_luminance", "recolor_intensity")),
    ControlType("color", "T2I-Adapter", ("color",), ("color",)),
    ControlType("keypoints", "Keypoints", ("keypoints",), ("none",)),
)
CONTROL_TYPES: Mapping[str, ControlType] = MappingProxyType({own.name: own for own in _TYPES})


def control_type(name: str) -> ControlType | None:
    """The type of a name, of A1111's title for it, or of one of its annotators; None where it is none of these."""
    wanted = folded(name)
    for own in _TYPES:
        if own.is_called(name):
            return own
    for own in _TYPES:
        if wanted in (folded(annotator) for annotator in own.annotators if annotator not in {"invert", "none"}):
            return own
    return None


def drawn_type(names: Sequence[str]) -> ControlType | None:
    """The type of what an annotator draws that has these names, its own first; None for an image that is a hint."""
    known = [kind for kind in map(control_type, names) if kind is not None]
    return known[0] if known else type_in(names[0])


def type_in(name: str) -> ControlType | None:
    """The type of which a word stands first in a name: normal_from_depth is of normals."""
    wanted = folded(name)
    places = [(wanted.find(folded(word)), own) for own in _TYPES for word in own.words]
    there = [(place, own) for place, own in places if place >= 0]
    return min(there, key=lambda found: found[0])[1] if there else None
