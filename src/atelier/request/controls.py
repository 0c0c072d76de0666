"""Controls as text: images that say where things are, what is to be seen, and whose face.

    canny:photo.png:0.8
    depth:map.png annotator=none model=control_v11f1p_sd15_depth start=0.1 end=0.8 mode=prompt
    photo.png:0.6 blocks=style
    anna.png:0.8 which=2 pose=dancer.png
    other.png with=previous

A control is its type, the image, and its weight, divided by colons; a reference and a face are the image and its
weight. Then pairs (see `request.spoken`). Where no image stands, it is the one that generation starts from. An image
whose name has spaces, or ends like a weight, is a JSON string.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

from atelier.errors import BadInput
from atelier.request.spoken import Bad, digits, number, pairs, quoted, short, unquoted

MAX_CONTROLS = 10
"""Of each kind: each is a network of its own."""
MAX_WEIGHT = 10.0
RESOLUTIONS = (64, 2048)
"""What the short side of an image can be brought to for an annotator, as in A1111."""
RESOLUTION = 512
"""Where nobody says, in A1111."""
Mode = Literal["balanced", "prompt", "control"]
"""What counts more where prompt and control disagree: neither, or one of them (A1111's "Balanced", "My prompt is more
important", "ControlNet is more important")."""
Passes = Literal["both", "first", "second"]
Method = Literal["network", "example"]
METHODS: tuple[Method, ...] = ("network", "example")
Fit = Literal["stretch", "crop", "fill"]
MODES: tuple[Mode, ...] = ("balanced", "prompt", "control")
PASSES: tuple[Passes, ...] = ("both", "first", "second")
FITS: tuple[Fit, ...] = ("stretch", "crop", "fill")

WHEN = ("weight", "start", "end", "model", "mask", "pass")
CONTROL_KEYS = (*WHEN, "mode", "layers", "annotator", "resize", "resolution")
REFERENCE_KEYS = (*WHEN, "blocks", "method", "fidelity", "with")
FACE_KEYS = (*WHEN, "blocks", "which", "lora", "control", "control_weight", "pose", "with")
PREVIOUS = "previous"
"""Said of an image that is one prompt with the one before it."""
OWN_KEYS = ("with", "which")
"""What such an image may say of itself."""
MAX_FACES = 100
"""Of an image with several faces, the last one that can be named."""
NO_CONTROL = "none"
"""Said in place of the file of a face's ControlNet."""
CONTROL_EXAMPLE = 'write it as "canny:photo.png:0.8"'
REFERENCE_EXAMPLE = 'write it as "photo.png:0.6"'
FACE_EXAMPLE = 'write it as "anna.png:0.8"'
_TYPE = re.compile(r"\s*([^\s:\"=]+)\s*")
_IMAGE = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s"]*)', re.DOTALL)
_WEIGHT = re.compile(r":([+-]?[\d.]+(?:e[+-]?\d+)?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class When:
    """What every control says. image: a file or data: URI, "" for the image to start from; weight: 0 to MAX_WEIGHT;
    start, end: shares of the steps between which it acts, the first None where nobody says; model: the file of its
    network, "" for the one of its type; mask: an image that is white where it acts, "" for everywhere; passes: in which
    of two."""

    image: str = ""
    weight: float = 1.0
    start: float | None = None
    end: float = 1.0
    model: str = ""
    mask: str = ""
    passes: Passes = "both"


@dataclass(frozen=True, slots=True)
class Control(When):
    """type: what the network reads, by the name of an annotator. layers: a factor for each layer of the network, 0 to
    MAX_WEIGHT, the outermost first and the middle last, () for those of `mode`. annotator: what makes that of the
    image, "" for the one called as the type, "none" for an image that is it already; resize: how the image comes to the
    size; resolution: of what the annotator sees, 0 for that of the image that is generated; options: of the annotator,
    by name."""

    type: str = ""
    mode: Mode = "balanced"
    layers: tuple[float, ...] = ()
    annotator: str = ""
    resize: Fit = "crop"
    resolution: int = 0
    options: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Shown(When):
    """An image that is read as a prompt. blocks: on which blocks of the model it acts: "" for all, "style",
    "composition", or factors by block ("down.1=0.5,up.0=1"); joined: whether it is one prompt with the one before it,
    whose other values it has."""

    blocks: str = ""
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Reference(Shown):
    """method: by a network for such images, or by the model's own attention to it as an example; fidelity: of an
    example, how far negative prompts are left alone."""

    method: Method = "network"
    fidelity: float = 0.5


@dataclass(frozen=True, slots=True)
class Face(Shown):
    """which: of several faces, 1 for the largest; lora: weight of the LoRA that the file
    brings. Of a file with a ControlNet beside it (InstantID), control: that one's file, "" for the first that there is,
    "none" for none; control_weight: its weight, None for the same; pose: an image with a face where this one is to be,
    "" for where it is in its own image."""

    which: int = 1
    lora: float = 1.0
    control: str = ""
    control_weight: float | None = None
    pose: str = ""


W = TypeVar("W", bound=When)
C = TypeVar("C", bound=str)


def parse_control(text: str) -> Control:
    """Raises BadInput in one line."""
    bad = partial(_bad, "control", text)
    named = _TYPE.match(text)
    if named is None:
        raise bad(f"names no type; {CONTROL_EXAMPLE}")
    at, image, weight = named.end(), "", ""
    if text[at : at + 1] == ":":
        image, weight, at = _image(text, at + 1, bad)
        if not weight and not math.isnan(number(image)):  # canny:0.8
            image, weight = "", image
    elif text[at : at + 1] == "=":
        raise bad(f"names no type; {CONTROL_EXAMPLE}")
    found, at = pairs(text, at, None, "a control", bad)
    _check_end(text, at, CONTROL_EXAMPLE, bad)
    own = {key: value for key, value in found.items() if key in CONTROL_KEYS}
    control = _when(Control(image=image, type=named[1]), own, weight, bad)
    return replace(
        control,
        mode=_one_of(own, "mode", "balanced", MODES, bad),
        layers=_layers(own, bad),
        annotator=own.get("annotator", ""),
        resize=_one_of(own, "resize", "crop", FITS, bad),
        resolution=_resolution(own.get("resolution", "0"), bad),
        options=tuple((key, _option(key, value, bad)) for key, value in found.items() if key not in own),
    )


def parse_reference(text: str) -> Reference:
    """Raises BadInput in one line."""
    bad = partial(_bad, "reference", text)
    image, weight, at = _image(text, 0, bad)
    if not image:
        raise bad(f"names no image; {REFERENCE_EXAMPLE}")
    found, at = pairs(text, at, REFERENCE_KEYS, "a reference", bad)
    _check_end(text, at, REFERENCE_EXAMPLE, bad)
    reference = replace(
        _when(Reference(image=image, joined=_joined(found, weight, bad)), found, weight, bad),
        blocks=found.get("blocks", ""),
        method=_one_of(found, "method", "network", METHODS, bad),
        fidelity=_between("fidelity", found.get("fidelity", "0.5"), 1.0, bad),
    )
    unused = ("model", "mask", "blocks") if reference.method == "example" else ("fidelity",)
    for key in unused:
        if key in found:
            raise bad(f"{key} has no effect with method={reference.method}: leave it out")
    if reference.method == "example" and reference.weight > 1:
        raise bad(f"weight {digits(reference.weight)}: of an example it is at most 1")
    return reference


def parse_face(text: str) -> Face:
    """Raises BadInput in one line."""
    bad = partial(_bad, "face", text)
    image, weight, at = _image(text, 0, bad)
    if not image:
        raise bad(f"names no image; {FACE_EXAMPLE}")
    found, at = pairs(text, at, FACE_KEYS, "a face", bad)
    _check_end(text, at, FACE_EXAMPLE, bad)
    face = replace(
        _when(Face(image=image, joined=_joined(found, weight, bad)), found, weight, bad),
        blocks=found.get("blocks", ""),
        which=_whole(found, "which", 1, MAX_FACES, bad),
        lora=_between("lora", found.get("lora", "1"), MAX_WEIGHT, bad),
        control=found.get("control", ""),
        control_weight=_maybe_weight(found, "control_weight", bad),
        pose=found.get("pose", ""),
    )
    if face.control == NO_CONTROL:
        for key in ("control_weight", "pose"):
            if key in found:
                raise bad(f"{key} has no effect with control={NO_CONTROL}: leave it out")
    return face


def control_text(control: Control) -> str:
    """The text of a control; parsing it gives the same control."""
    own = {
        "mode": control.mode if control.mode != "balanced" else "",
        "layers": ",".join(digits(factor) for factor in control.layers),
        "annotator": control.annotator,
        "resize": control.resize if control.resize != "crop" else "",
        "resolution": str(control.resolution) if control.resolution else "",
        **{key: digits(value) for key, value in control.options},
    }
    return f"{control.type}:{_text(control, own)}"


def reference_text(reference: Reference) -> str:
    """The same of a reference."""
    if reference.joined:
        return _joined_text(reference, {})
    own = {"blocks": reference.blocks, "method": reference.method if reference.method != "network" else ""}
    if reference.method == "example":
        own["fidelity"] = digits(reference.fidelity)
    return _text(reference, own)


def face_text(face: Face) -> str:
    """The same of a face."""
    which = str(face.which) if face.which != 1 else ""
    if face.joined:
        return _joined_text(face, {"which": which})
    own = {
        "blocks": face.blocks,
        "which": which,
        "lora": digits(face.lora) if face.lora != 1 else "",
        "control": face.control,
        "control_weight": "" if face.control_weight is None else digits(face.control_weight),
        "pose": face.pose,
    }
    return _text(face, own)


def _text(when: When, own: Mapping[str, str]) -> str:
    said = {
        "start": "" if when.start is None else digits(when.start),
        "end": digits(when.end) if when.end != 1 else "",
        "model": when.model,
        "mask": when.mask,
        "pass": when.passes if when.passes != "both" else "",
        **own,
    }
    return " ".join([f"{_image_text(when.image)}:{digits(when.weight)}", *_told(said)])


def _joined_text(own: Shown, more: Mapping[str, str]) -> str:
    return " ".join([_image_text(own.image), *_told({"with": PREVIOUS, **more})])


def _told(said: Mapping[str, str]) -> list[str]:
    return [f"{key}={quoted(value)}" for key, value in said.items() if value]


def _image_text(image: str) -> str:
    is_plain = re.fullmatch(r"[^\s\"]*", image) and not _WEIGHT.search(image) and not re.match(r"\w+=", image)
    return image if is_plain else quoted(image) if quoted(image) != image else f'"{image}"'


def _image(text: str, at: int, bad: Bad) -> tuple[str, str, int]:
    """(the image, the weight behind it or "", where both end)."""
    found = _IMAGE.match(text, at)
    assert found is not None  # it matches nothing as well
    if found[1].startswith('"'):
        weight = re.compile(r":([^\s]*)").match(text, found.end())
        image = unquoted("image", found[1], bad)
        return image, "" if weight is None else weight[1], found.end() if weight is None else weight.end()
    image, end = found[1], found.end()
    if re.match(r"\s*=", text[end:]) or re.fullmatch(r"\w+=.*", image):
        return "", "", at
    weight = _WEIGHT.search(image)
    if weight is not None:
        return image[: weight.start()], weight[1], end
    return image.rstrip(":") if image.strip(":") == "" else image, "", end


def _when(own: W, found: Mapping[str, str], weight: str, bad: Bad) -> W:
    if weight and "weight" in found:
        raise bad("weight is given twice: leave one out")
    start = _between("start", found["start"], 1.0, bad) if "start" in found else None
    end = _between("end", found.get("end", "1"), 1.0, bad)
    if (start or 0) >= end:
        raise bad(f"start {digits(start or 0)} is not before end {digits(end)}: it would never act")
    return replace(
        own,
        weight=_between("weight", weight or found.get("weight", "1"), MAX_WEIGHT, bad),
        start=start,
        end=end,
        model=found.get("model", ""),
        mask=found.get("mask", ""),
        passes=_one_of(found, "pass", "both", PASSES, bad),
    )


def _joined(found: Mapping[str, str], weight: str, bad: Bad) -> bool:
    """Raises what `bad` makes for anything else that such an image says than which it is."""
    said = found.get("with", "")
    if said not in {"", PREVIOUS}:
        raise bad(f"with {short(said)!r}: it can be {PREVIOUS}")
    others = [*(["weight"] if weight else []), *(key for key in found if key not in OWN_KEYS)]
    if said and others:
        raise bad(f"{others[0]} is that of the one before it: leave it out")
    return bool(said)


def _one_of(found: Mapping[str, str], key: str, usual: C, known: Sequence[C], bad: Bad) -> C:
    value = found.get(key, usual)
    chosen = next((name for name in known if name == value), None)
    if chosen is None:
        raise bad(f"{key} {short(value)!r}: choose one of {', '.join(known)}")
    return chosen


def _between(key: str, text: str, most: float, bad: Bad) -> float:
    value = number(text)
    if not 0 <= value <= most:
        raise bad(f"{key} {short(text)!r}: must be a number from 0 to {most:g}")
    return value


def _maybe_weight(found: Mapping[str, str], key: str, bad: Bad) -> float | None:
    return _between(key, found[key], MAX_WEIGHT, bad) if key in found else None


def _layers(found: Mapping[str, str], bad: Bad) -> tuple[float, ...]:
    said = found["layers"].split(",") if "layers" in found else []
    return tuple(_between("layers", factor.strip(), MAX_WEIGHT, bad) for factor in said)


def _whole(found: Mapping[str, str], key: str, usual: int, most: int, bad: Bad) -> int:
    text = found.get(key, str(usual))
    value = number(text)
    if not (1 <= value <= most and value == int(value)):
        raise bad(f"{key} {short(text)!r}: must be a whole number from 1 to {most}")
    return int(value)


def _resolution(text: str, bad: Bad) -> int:
    value, (low, high) = number(text), RESOLUTIONS
    if value != 0 and not (low <= value <= high and value == int(value)):
        raise bad(f"resolution {short(text)!r}: must be pixels, {low} to {high}, or 0 for those of the image")
    return int(value)


def _option(key: str, text: str, bad: Bad) -> float:
    value = number(text)
    if not abs(value) < float("inf"):
        raise bad(f"{key} {short(text)!r}: no key of a control, and no number as options of annotators are")
    return value


def _check_end(text: str, at: int, example: str, bad: Bad) -> None:
    if rest := text[at:].strip():
        raise bad(f"{short(rest)!r} is no key=value; {example}")


def _bad(what: str, text: str, why: str) -> BadInput:
    error = BadInput(f"{what} {short(text)!r}: {why}")
    error.field = f"{what}s"
    return error
