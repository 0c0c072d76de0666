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
OF_FACES = ("ip-adapter_face_id", "instant_id_face_embedding")
"""What modules begin with that read a face; A1111 leaves the LoRA of their files to a tag in the prompt."""
IMAGE = "IMAGE"
"""What stands for the image in what is told."""
UNIT = re.compile(r"ControlNet (\d{1,2})", re.IGNORECASE)
_FIELD = re.compile(r"ControlNet(?:-(\d{1,2}))? (\w[\w ]*)", re.IGNORECASE)
_PAIR = re.compile(r"(?<![^,])([^:,]++):((?:\([^()]*+\)|[^,(])*+)")
_NEW = MappingProxyType({"preprocessor": "module", "guidance strength": "guidance end"})
"""Words of old versions."""
MODES: Mapping[str, Mode] = MappingProxyType(
    {"my prompt is more important": "prompt", "controlnet is more important": "control"}
)
FITS: Mapping[str, Fit] = MappingProxyType(
    {
        "just resize": "stretch",
        "resize and fill": "fill",
        "outer fit (shrink to fit)": "fill",
        "envelope (outer fit)": "fill",
    }
)
PASSES: Mapping[str, Passes] = MappingProxyType({"low res only": "first", "high res only": "second"})
W = TypeVar("W", bound=When)
_WORD = re.compile(r"[a-z0-9]+")
_NO_TYPES = frozenset({"fp16", "full", "mid", "small", "safetensors"})
OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "canny": ("low", "high"),
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
    texts = {key: spoken(own) for key, own in units(found.pairs).items()}
    takes: Mapping[type[When], str] = {Control: control, Reference: reference, Face: face}
    return tuple(
        f"{key}: its image is in no infotext, so it does not act: give it again, {takes[kind]} '{text}'"
        for key, (kind, text) in texts.items()
    )


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
    return {name: own for name, own in found.items() if own.get("enabled", "True").casefold() != "false" and _acts(own)}


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
    if module.casefold().startswith(OF_FACES):
        return Face, face_text(_when(Face(image=IMAGE, lora=0.0), unit))
    if module.casefold().startswith("ip-adapter"):
        return Reference, reference_text(_when(Reference(image=IMAGE), unit))
    is_perfect = unit.get("pixel perfect", "").casefold() == "true"
    control = Control(
        image=IMAGE,
        type=_type(unit),
        mode=MODES.get(unit.get("control mode", "").casefold(), "balanced"),
        annotator=module.partition(" ")[0],
        resize=FITS.get(unit.get("resize mode", "").casefold(), "crop"),
        resolution=0 if is_perfect or module.casefold() == "none" else _resolution(unit),
        options=tuple(_options(unit)),
    )
    return Control, control_text(_when(control, unit))


def _type(unit: Mapping[str, str]) -> str:
    """The module, which the types know, or the last word of the model's name where there is none."""
    module = unit.get("module", "none").partition(" ")[0]
    if module.casefold() != "none":
        return module
    words = _WORD.findall(unit.get("model", "").casefold().partition(" ")[0])
    return next((word for word in reversed(words) if word not in _NO_TYPES), "hint")


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
