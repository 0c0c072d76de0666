"""One unit of A1111's ControlNet extension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar, cast

from atelier.adapters.control_types import CONTROL_TYPES, control_type, drawn_type, type_in
from atelier.api.sdapi.annotators import (
    INPAINT,
    KEYPOINTS,
    UNSET,
    fills,
    find_annotator,
    is_example,
    is_face,
    is_image_prompt,
    not_here,
    resolution,
    thresholds,
)
from atelier.api.sdapi.at import At, Beside
from atelier.api.sdapi.bodies import Unit
from atelier.api.sdapi.control_lists import READ_IMAGES
from atelier.api.sdapi.fields import RESIZE_NAMES
from atelier.api.sdapi.filling import filled
from atelier.api.sdapi.names import NONE, find_control
from atelier.api.sdapi.pictures import Taken, taken
from atelier.api.service import AnnotatorEntry, Catalogue, NamedEntry
from atelier.errors import nearest
from atelier.registry import folded
from atelier.request.controls import (
    FITS,
    MAX_WEIGHT,
    MODES,
    NO_CONTROL,
    PASSES,
    Control,
    Face,
    Fit,
    Mode,
    Reference,
    When,
    control_text,
)
from atelier.request.events import Json

C = TypeVar("C", bound=str)
W = TypeVar("W", bound=When)
UPLOAD = "upload:"
START = UPLOAD + "image"
"""What stands for the image to start from until it is uploaded, as in `translate`."""
INPAINT_TYPE = "inpaint"
FIDELITY = 0.5
"""Of an example where nobody says, as in A1111."""
BY_MODE: Mapping[Mode, float] = MappingProxyType({"prompt": 0.0, "control": 1.0})
"""The fidelity of an example where one of both counts more."""
Kind = Literal["reference", "face", "pose"]
"""How a unit reads an image that no annotator makes a hint of."""
HINT = "hint"
"""The type of a hint of which module, model and file say none."""
MODE_NAMES: Mapping[str, int] = MappingProxyType(
    {"balanced": 0, "my prompt is more important": 1, "controlnet is more important": 2}
)
PASS_NAMES: Mapping[str, int] = MappingProxyType({"both": 0, "low res only": 1, "high res only": 2})
FIT_NAMES: Mapping[str, int] = MappingProxyType(
    {name: index for name, fit in RESIZE_NAMES.items() for index, own in enumerate(FITS) if own == fit}
)
UNDONE: Mapping[str, str] = MappingProxyType(
    {
        "ipadapter_input": "embeddings of images are not taken; give image",
        "animatediff_batch": "there is no AnimateDiff here",
        "batch_images": "folders of the server are not read; give image",
        "batch_image_files": "files of the server are not read; give image",
    }
)
"""Fields that change an image and are not done."""


class Map(NamedTuple):
    """What a unit adds to the images: the hint of a control, or what stands for the image of a reference or a face."""

    control: str
    image: str = ""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the face of another unit is to be, and the ControlNet that says so: what it has of a face."""

    face: Face


class Read(NamedTuple):
    """own: what a unit asks for; images: base64 by what stands for them; fields: of the request, beside both."""

    map: Map
    own: Control | Reference | Face | Pose
    images: Mapping[str, str]
    fields: Mapping[str, Json] = MappingProxyType({})


def read(unit: Unit, at: At, catalogue: Catalogue, warn: list[str], beside: Beside) -> Read:
    """What a unit asks for; beside: what the request has beside its units. Raises Refused."""
    start = beside.images
    _check_undone(unit, at, only_masked=beside.only_masked)
    reason = not_here(unit.module)
    if reason:
        raise at.bad("module", f"{unit.module[:60]!r}: {reason}")
    if fills(unit.module):
        return _inpaint(unit, at, catalogue, beside)
    images = _images(unit, at, image="image" in start)
    if is_example(unit.module):
        return _example(unit, at, images, warn, beside)
    model = _model(unit, at, catalogue)
    maker = _maker(unit, at, catalogue, model)
    own = UPLOAD + at.image("image") if at.image("image") in images else ""
    if not isinstance(maker, AnnotatorEntry):
        return Read(_shown(own, at), _prompted(maker, own or START, unit, at, model, images, beside), images)
    control = Control(
        image=own,
        type=_type(unit, at, maker, model),
        mode=_mode(unit, at),
        layers=_layers(unit, at),
        annotator=maker.name,
        resize=_fit(unit, at),
        resolution=_resolution(unit, at, maker, warn),
        options=tuple(_options(unit, at, maker, warn)),
    )
    control = _when(control, unit, at, model.name, images, beside)
    return Read(Map(control_text(control)), control, images)


def _prompted(
    kind: Kind, image: str, unit: Unit, at: At, model: NamedEntry, images: Mapping[str, str], beside: Beside
) -> Reference | Face | Pose:
    """A unit that reads an image. A1111 leaves the LoRA of files for faces to a tag in the prompt. Raises Refused."""
    _check_no_layers(unit, at)
    if kind == "reference":
        return _when(Reference(image=image), unit, at, model.name, images, beside)
    face = _when(Face(image=image, lora=0.0, control=NO_CONTROL), unit, at, model.name, images, beside)
    if kind == "face":
        return face
    if _mode(unit, at) != "balanced":
        raise at.bad("control_mode", "of a face it is balanced")
    return Pose(face)


def _shown(own: str, at: At) -> Map:
    """Of what reads an image; own: what stands for that of the unit, "" where it reads that of the request."""
    return Map("", at.image("image") if own else "image")


def _example(unit: Unit, at: At, images: Mapping[str, str], warn: list[str], beside: Beside) -> Read:
    """A unit of "reference only". Its fidelity is 0 where the prompt counts more, and 1 where the unit does, and a
    weight above 1 is 1, as in A1111. Raises Refused."""
    if at.image("effective_region_mask") in images:
        raise at.bad("effective_region_mask", "an example acts everywhere: leave it out")
    _check_no_layers(unit, at)
    mode = _mode(unit, at)
    fidelity = unit.threshold_a
    if not 0 <= fidelity <= 1:
        warn += [at.told("threshold_a", f"{fidelity:g} cannot be used; {FIDELITY:g} is")] if fidelity != UNSET else []
        fidelity = FIDELITY
    own = UPLOAD + at.image("image") if at.image("image") in images else ""
    example = Reference(image=own or START, method="example", fidelity=BY_MODE.get(mode, fidelity))
    example = _when(example, unit, at, "", images, beside)
    return Read(_shown(own, at), replace(example, weight=min(example.weight, 1.0)), images)


def _inpaint(unit: Unit, at: At, catalogue: Catalogue, beside: Beside) -> Read:
    """A unit whose hint leaves out what a mask shows: the image to start from and its mask, which a text to image gets
    from the unit. Raises Refused."""
    given = _taken(unit.image, at, "image")
    mask = given.mask or _taken(unit.mask, at, "mask").image
    found = filled(unit.module, given.image, mask, at, beside.images)
    where = _taken(unit.effective_region_mask, at, "effective_region_mask").image
    images = {**found.images, **({at.image("effective_region_mask"): where} if where else {})}
    model = _model(unit, at, catalogue)
    if model.more.get("kind") in READ_IMAGES:
        raise at.bad("model", f"{model.name!r} reads an image, and {unit.module[:60]} is for networks that read hints")
    layers = _layers(unit, at)
    control = Control(type=INPAINT_TYPE, mode=_mode(unit, at), layers=layers, annotator=INPAINT, resize=_fit(unit, at))
    control = _when(control, unit, at, model.name, images, beside)
    fields = {**found.fields, "resize_mode": control.resize} if found.fields else {}
    return Read(Map(control_text(replace(control, image=found.shown))), control, images, fields)


def _mode(unit: Unit, at: At) -> Mode:
    return _chosen(2 if unit.guessmode else unit.control_mode, MODES, MODE_NAMES, "control_mode", at)


def _layers(unit: Unit, at: At) -> tuple[float, ...]:
    """A factor for each layer of the network. Raises Refused."""
    if any(not 0 <= factor <= MAX_WEIGHT for factor in unit.advanced_weighting or ()):
        raise at.bad("advanced_weighting", f"each can be 0 to {MAX_WEIGHT:g}")
    return tuple(unit.advanced_weighting or ())


def _check_no_layers(unit: Unit, at: At) -> None:
    if unit.advanced_weighting:
        raise at.bad("advanced_weighting", "only networks that read a hint take it; give weight")


def _fit(unit: Unit, at: At) -> Fit:
    return _chosen(unit.resize_mode, FITS, FIT_NAMES, "resize_mode", at)


def _check_undone(unit: Unit, at: At, *, only_masked: bool) -> None:
    for name, why in UNDONE.items():
        if getattr(unit, name):
            raise at.bad(name, why)
    if folded(unit.input_mode) not in {"", "simple", "inputmode.simple"}:
        raise at.bad("input_mode", f"{unit.input_mode[:60]!r} is not taken; images of a unit are: simple")
    reads_whole = is_example(unit.module) or is_image_prompt(unit.module) or is_face(unit.module)
    if only_masked and not reads_whole and not unit.inpaint_crop_input_image:
        raise at.bad("inpaint_crop_input_image", "false is not taken: a hint is cut as the image is")


def _images(unit: Unit, at: At, *, image: bool) -> dict[str, str]:
    """Raises Refused where there is none, and for a mask of the image."""
    given = _taken(unit.image, at, "image")
    mask = given.mask or _taken(unit.mask, at, "mask").image
    if mask:
        raise at.bad("mask", "only inpaint modules read one; effective_region_mask says where a unit acts")
    if not given.image and not image:
        raise at.bad("image", "there is none, and none to start from")
    where = _taken(unit.effective_region_mask, at, "effective_region_mask").image
    found = {"image": given.image, "effective_region_mask": where}
    return {at.image(name): data for name, data in found.items() if data}


def _taken(given: object, at: At, name: str) -> Taken:
    """An image with its mask: also as [image, mask], or alone in a list. Raises Refused."""
    if isinstance(given, list):
        return _listed(cast("list[object]", given), at, name)
    what = f"ControlNet unit {at.number}: {name}"
    if not isinstance(given, Mapping):
        return taken(given, what)
    named = cast("Mapping[str, object]", given)
    return Taken("", "") if named.get("image", "") is None else taken(named, what)


def _listed(given: Sequence[object], at: At, name: str) -> Taken:
    match given:
        case []:
            return Taken("", "")
        case [str(image), str() | None as mask]:
            return Taken(image.strip(), (mask or "").strip())
        case [one]:
            return _taken(one, at, name)
        case _:
            raise at.bad(name, "several: one is taken")


def _model(unit: Unit, at: At, catalogue: Catalogue) -> NamedEntry:
    """The network that is named. Raises Refused for none, and for one that is not listed."""
    if unit.model.strip().casefold() in NONE:
        raise at.bad("model", "none is named: give one of GET /controlnet/model_list")
    found = find_control(catalogue, unit.model)
    if found is None:
        names = [entry.name for entry in catalogue.controls]
        raise at.bad("model", f"{unit.model[:100]!r} not found; {nearest(unit.model, names)}")
    return found


def _maker(unit: Unit, at: At, catalogue: Catalogue, model: NamedEntry) -> AnnotatorEntry | Kind:
    """What draws the hint, or else how an image is read. Raises Refused."""
    reads = model.more.get("kind")
    if folded(unit.module) == folded(KEYPOINTS):
        if reads in READ_IMAGES:
            raise at.bad("model", f"{model.name!r} is no ControlNet, and {KEYPOINTS} is for InstantID's")
        return "pose"
    named = folded(unit.module) in NONE
    if is_image_prompt(unit.module) or is_face(unit.module) or (named and reads in READ_IMAGES):
        if reads == "hint":
            raise at.bad("model", f"{model.name!r} reads a hint, and {unit.module[:60]} is for image prompts")
        return "face" if reads == "face" or is_face(unit.module) else "reference"
    if reads in READ_IMAGES:
        raise at.bad("module", f"{unit.module[:60]!r} draws a hint, and {model.name} reads an image: ip-adapter-auto")
    maker = find_annotator(catalogue, unit.module)
    if maker is None:
        known = [entry.name for entry in catalogue.annotators]
        raise at.bad("module", f"{unit.module[:60]!r} not found; {nearest(unit.module, known)}")
    if not maker.there:
        raise at.bad("module", f"{maker.name!r}: its file {maker.file} is not there; send a hint, with the module none")
    return maker


def _type(unit: Unit, at: At, maker: AnnotatorEntry, model: NamedEntry) -> str:
    """What the network reads, as far as anything says it: a network of several types has to know."""
    if folded(unit.union_control_type) not in {"", "unknown"}:
        own = control_type(unit.union_control_type)
        if own is None:
            known = [kind.title for kind in CONTROL_TYPES.values()]
            raise at.bad("union_control_type", f"{unit.union_control_type[:60]!r}: {nearest('', known)}")
        return own.name
    kind = drawn_type((maker.name, *maker.aliases)) or type_in(model.name)
    return HINT if kind is None else kind.name


def _when(own: W, unit: Unit, at: At, model: str, images: Mapping[str, str], beside: Beside) -> W:
    """With what controls and references both say. Factors for each layer replace the weight, and without a second pass
    `hr_option` means nothing, as in A1111. Raises Refused."""
    for name, value, most in (
        ("weight", unit.weight, MAX_WEIGHT),
        ("guidance_start", unit.guidance_start, 1.0),
        ("guidance_end", unit.guidance_end, 1.0),
    ):
        if not 0 <= value <= most:
            raise at.bad(name, f"{value:g}: it can be 0 to {most:g}")
    if unit.guidance_start >= unit.guidance_end:
        told = f"{unit.guidance_start:g} is not before guidance_end {unit.guidance_end:g}: the unit would never act"
        raise at.bad("guidance_start", told)
    place = at.image("effective_region_mask")
    passes = _chosen(unit.hr_option, PASSES, PASS_NAMES, "hr_option", at)
    return replace(
        own,
        weight=1.0 if unit.advanced_weighting else unit.weight,
        start=unit.guidance_start or None,
        end=unit.guidance_end,
        model=model,
        mask=UPLOAD + place if place in images else "",
        passes=passes if beside.twice else "both",
    )


def _chosen(said: int | str, known: Sequence[C], names: Mapping[str, int], field: str, at: At) -> C:
    """One of several by its number or its name. Raises Refused."""
    text = str(said).strip().casefold()
    index = names.get(text, int(text) if text.isdecimal() and len(text) < 4 else -1)
    if not 0 <= index < len(known):
        raise at.bad(field, f"{str(said)[:60]!r}: give 0 to {len(known) - 1}, or one of {', '.join(names)}")
    return known[index]


def _resolution(unit: Unit, at: At, maker: AnnotatorEntry, warn: list[str]) -> int:
    """0 lets the annotator see the image at the size of the request: A1111's pixel perfect."""
    if unit.pixel_perfect or maker.name == "none":
        return 0
    found = resolution(unit.processor_res)
    if unit.processor_res not in {found, UNSET}:
        warn.append(at.told("processor_res", f"{unit.processor_res} cannot be used; {found} is"))
    return found


def _options(unit: Unit, at: At, maker: AnnotatorEntry, warn: list[str]) -> Iterator[tuple[str, float]]:
    given = {"threshold_a": unit.threshold_a, "threshold_b": unit.threshold_b}
    for name, option, value in thresholds(maker, given):
        if option.low <= value <= option.high:
            yield option.name, value
        else:
            warn.append(at.told(name, f"{value:g} cannot be used; {option.default:g} is"))
