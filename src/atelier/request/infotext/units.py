"""Units of A1111's ControlNet extension in infotexts, as controls and references whose image has to be given again.

Three forms: `ControlNet 0: "Module: canny, Model: …, Weight: 1"` since 2023; before, in other words and with lists in
brackets; first of all a key for each field, `ControlNet Module: canny`. An infotext holds no image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from atelier.request.controls import (
    MAX_WEIGHT,
    NO_CONTROL,
    RESOLUTIONS,
    Control,
    Face,
    Fit,
    Mode,
    Passes,
    Reference,
    When,
    control_text,
    face_text,
    reference_text,
)
from atelier.request.infotext.record import Infotext, Pairs
from atelier.request.spoken import number

OWN = ("Controls", "References", "Faces")
"""Keys that say what steered an image in our own words."""
INSTANT = "instant_id_face_embedding"
OF_FACES = ("ip-adapter_face_id", INSTANT)
"""What modules begin with that read a face; A1111 leaves the LoRA of their files to a tag in the prompt."""
KEYPOINTS = "instant_id_face_keypoints"
"""The module of a unit whose ControlNet is that of the unit with the face."""
EXAMPLE = "reference_only"
AUTO = "ip-adapter-auto"
"""The module that leaves it to the file what is read of an image."""
OF_FORGE: Mapping[str, str] = MappingProxyType(
    {
        "clip-vit-h (ipadapter)": AUTO,
        "clip-vit-bigg (ipadapter)": AUTO,
        "insightface+clip-h (ipadapter)": AUTO,
        "insightface (instantid)": INSTANT,
    }
)
"""Modules that Forge calls otherwise than A1111's extension, in small letters."""
READS_FACES = "faceid"
"""What the names of files hold that read a face by that module."""
IMAGE = "IMAGE"
"""What stands for the image in what is told."""
UNIT = re.compile(r"ControlNet (\d{1,2})", re.IGNORECASE)
_FIELD = re.compile(r"ControlNet(?:-(\d{1,2}))? (\w[\w ]*)", re.IGNORECASE)
_PAIR = re.compile(r"(?<![^,])([^:,]++):((?:\([^()]*+\)|[^,(])*+)")
_NEW = MappingProxyType({"preprocessor": "module", "guidance strength": "guidance end"})
"""Words of old versions."""
MODES: Mapping[str, Mode] = MappingProxyType(
    {
        "my prompt is more important": "prompt",
        "controlmode.prompt": "prompt",
        "1": "prompt",
        "controlnet is more important": "control",
        "controlmode.control": "control",
        "2": "control",
    }
)
"""As an infotext says what is not usual: in words, by the name that a program has for it, or by number."""
FIDELITIES: Mapping[Mode, float] = MappingProxyType({"prompt": 0.0, "control": 1.0})
FITS: Mapping[str, Fit] = MappingProxyType(
    {
        "just resize": "stretch",
        "resizemode.resize": "stretch",
        "0": "stretch",
        "resize and fill": "fill",
        "resizemode.outer_fit": "fill",
        "2": "fill",
        "outer fit (shrink to fit)": "fill",
        "envelope (outer fit)": "fill",
    }
)
PASSES: Mapping[str, Passes] = MappingProxyType(
    {
        "low res only": "first",
        "hiresfixoption.low_res_only": "first",
        "1": "first",
        "high res only": "second",
        "hiresfixoption.high_res_only": "second",
        "2": "second",
    }
)
UNION_TYPES: Mapping[str, str] = MappingProxyType(
    {"soft_edge": "softedge", "hard_edge": "canny", "normal_map": "normal"}
)
"""What a union's hint is, where A1111 has another word for it."""
W = TypeVar("W", bound=When)
_WORD = re.compile(r"[a-z0-9]+")
_TYPES = frozenset(
    {
        *("blur", "canny", "color", "depth", "hed", "inpaint", "ip2p", "lineart", "mlsd", "normal", "normalbae"),
        *("openpose", "pose", "recolor", "scribble", "seg", "shuffle", "sketch", "softedge", "tile"),
    }
)
"""Words of names of files that say what the hint is."""
OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "canny": ("low", "high"),
        "mlsd": ("score", "length"),
        "tile_resample": ("rate",),
        "scribble_xdog": ("threshold",),
        "threshold": ("threshold",),
        "recolor_luminance": ("gamma",),
        "recolor_intensity": ("gamma",),
        "blur_gaussian": ("sigma",),
        "normal_midas": ("background",),
    }
)
"""What A1111's two thresholds are called here."""


def lacking(
    found: Infotext, control: str = "--control", reference: str = "--reference", face: str = "--face"
) -> tuple[str, ...]:
    """A line for each unit: its image has to be given again. None where the infotext has controls of its own. control,
    reference, face: what takes the text that is told."""
    if any(found.get(own) is not None for own in OWN):
        return ()
    texts = {key: spoken(own) for key, own in _joined(units(found.pairs)).items()}
    takes: Mapping[type[When], str] = {Control: control, Reference: reference, Face: face}
    return tuple(
        f"{key}: its image is in no infotext, so it does not act: give it again, {takes[kind]} '{text}'"
        for key, (kind, text) in texts.items()
    )


def _joined(found: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """The units, each that says where a face is put into one that reads a face of InstantID, where there is one."""
    told = {key: dict(own) for key, own in found.items()}
    places = [key for key, own in told.items() if own.get("module", "").casefold() == KEYPOINTS]
    faces = [own for own in told.values() if own.get("module", "").casefold() == INSTANT]
    for key, face in zip(places, faces, strict=False):
        place = told.pop(key)
        face |= {"control": place.get("model", ""), "control weight": place.get("weight", "1")}
    return dict(told)


def is_of_unit(key: str) -> bool:
    """Whether a key says something of a unit."""
    return bool(UNIT.fullmatch(key) or _FIELD.fullmatch(key))


def units(pairs: Pairs) -> dict[str, Mapping[str, str]]:
    """The fields of each enabled unit, folded, in today's words, by what the infotext calls it."""
    found: dict[str, dict[str, str]] = {}
    for name, value in pairs:
        if unit := UNIT.fullmatch(name):
            found.setdefault(f"ControlNet {int(unit[1])}", {}).update(_inner(value))
        elif part := _FIELD.fullmatch(name):
            own = found.setdefault(f"ControlNet {int(part[1] or 0)}", {})
            own[_today(part[2])] = value.strip()
    for own in found.values():
        own["module"] = module_of(own.get("module", "none"))
    return {name: own for name, own in found.items() if own.get("enabled", "True").casefold() != "false" and _acts(own)}


def module_of(said: str) -> str:
    """A module as A1111's extension calls it."""
    return OF_FORGE.get(said.strip().casefold(), said)


def _acts(unit: Mapping[str, str]) -> bool:
    return any(unit.get(name, "none").casefold() != "none" for name in ("module", "model"))


def _inner(text: str) -> Iterator[tuple[str, str]]:
    """The pairs of a unit; a list in brackets is several fields."""
    for pair in _PAIR.finditer(text):
        name, value = _today(pair[1]), pair[2].strip()
        listed = [part.strip() for part in value.strip("()").split(",")]
        if name == "starting/ending":
            yield from zip(("guidance start", "guidance end"), listed, strict=False)
        elif name == "preprocessor params":
            yield from zip(("processor res", "threshold a", "threshold b"), listed, strict=False)
        else:
            yield name, value


def _today(name: str) -> str:
    folded = name.strip().casefold().replace("_", " ")
    return _NEW.get(folded, folded)


def spoken(unit: Mapping[str, str]) -> tuple[type[When], str]:
    """A unit as a control, a reference or a face, and the text of it with IMAGE in it."""
    module = unit.get("module", "none")
    is_of_face = module == AUTO and READS_FACES in unit.get("model", "").casefold()
    if is_of_face or module.casefold().startswith(OF_FACES):
        return Face, face_text(_when(_face(unit), unit))
    if module.casefold() == EXAMPLE:
        return Reference, reference_text(_example(unit))
    if module.casefold().startswith("ip-adapter"):
        return Reference, reference_text(_when(Reference(image=IMAGE), unit))
    is_perfect = unit.get("pixel perfect", "").casefold() == "true"
    control = Control(
        image=IMAGE,
        type=_type(unit),
        mode=_mode(unit),
        annotator=module.partition(" ")[0],
        resize=FITS.get(unit.get("resize mode", "").casefold(), "crop"),
        resolution=0 if is_perfect or module.casefold() == "none" else _resolution(unit),
        options=tuple(_options(unit)),
    )
    return Control, control_text(_when(control, unit))


def _mode(unit: Mapping[str, str]) -> Mode:
    return MODES.get(unit.get("control mode", "").casefold(), "balanced")


def _face(unit: Mapping[str, str]) -> Face:
    if unit.get("module", "").casefold() != INSTANT:
        return Face(image=IMAGE, lora=0.0)
    weight = number(unit.get("control weight", "1"))
    control = unit.get("control", NO_CONTROL)
    return Face(image=IMAGE, lora=0.0, control=control, control_weight=None if control == NO_CONTROL else weight)


def _example(unit: Mapping[str, str]) -> Reference:
    """Its fidelity is 0 where the prompt counts more, and 1 where the unit does; a weight above 1 is 1, as in A1111."""
    own, given = _when(Reference(image=IMAGE, method="example"), unit), number(unit.get("threshold a", ""))
    fidelity = FIDELITIES.get(_mode(unit), given if 0 <= given <= 1 else own.fidelity)
    return replace(own, weight=min(own.weight, 1.0), model="", fidelity=fidelity)


def _type(unit: Mapping[str, str]) -> str:
    """What a union is told, or else the module, which the types know, or a word of the model's name."""
    union = unit.get("union control type", "").casefold().rpartition(".")[2].replace(" ", "_")
    if union not in {"", "unknown", "none"}:
        return UNION_TYPES.get(union, union)
    module = unit.get("module", "none").partition(" ")[0]
    if module.casefold() != "none":
        return module
    words = _WORD.findall(unit.get("model", "").casefold().partition(" ")[0])
    return next((word for word in reversed(words) if word in _TYPES), "hint")


def _options(unit: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    for name, threshold in zip(OPTIONS.get(unit.get("module", "").casefold(), ()), "ab", strict=False):
        value = number(unit.get(f"threshold {threshold}", "-1"))
        if 0 <= value < math.inf:
            yield name, value


def _resolution(unit: Mapping[str, str]) -> int:
    value, (low, high) = number(unit.get("processor res", "")), RESOLUTIONS
    return int(value) if low <= value <= high else 0


def _when(own: W, unit: Mapping[str, str]) -> W:
    start, end = (_share(unit.get(f"guidance {name}", ""), usual) for name, usual in (("start", 0.0), ("end", 1.0)))
    weight = number(unit.get("weight", "1"))
    model = unit.get("model", "")
    return replace(
        own,
        weight=weight if 0 <= weight <= MAX_WEIGHT else 1.0,
        start=start if 0 < start < end else None,
        end=end if start < end else 1.0,
        model="" if model.casefold() == "none" else model,
        passes=PASSES.get(unit.get("hr option", "").casefold(), "both"),
    )


def _share(text: str, usual: float) -> float:
    value = number(text)
    return value if 0 <= value <= 1 else usual
