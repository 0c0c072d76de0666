"""Units of A1111's ControlNet extension as controls, references and faces of a request. No HTTP, no image is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from pydantic import ValidationError

from atelier.api.sdapi.annotators import FACE_MODULES, KEYPOINTS
from atelier.api.sdapi.at import FIELD, At, Beside
from atelier.api.sdapi.bodies import Unit
from atelier.api.sdapi.fields import Fields, refused
from atelier.api.sdapi.names import NONE
from atelier.api.sdapi.unit import Map, Pose, Read, read
from atelier.api.service import Catalogue
from atelier.registry import folded
from atelier.request.controls import MAX_CONTROLS, Control, Face, Reference, control_text, face_text, reference_text
from atelier.request.infotext.units import module_of


@dataclass(frozen=True, slots=True)
class Steered:
    """What enabled units ask for. fields: of a request; images: base64 by the names that stand for them there; maps:
    of the units that want one, in order."""

    fields: Fields = field(default_factory=Fields)
    images: Mapping[str, str] = field(default_factory=dict[str, str])
    maps: tuple[Map, ...] = ()


def steered(args: Sequence[object], catalogue: Catalogue, warn: list[str], beside: Beside) -> Steered:
    """What units ask for; beside: what the request has beside them.

    Raises Refused (422), naming unit and field.
    """
    units = list(_enabled(args, warn))
    if len(units) > MAX_CONTROLS:
        raise refused(f"ControlNet: {len(units)} units are enabled; at most {MAX_CONTROLS} act at once", FIELD)
    found = [_joined(read(unit, at, catalogue, warn, beside), at) for at, unit in units]
    posed = _posed([(at, one.own) for (at, _), one in zip(units, found, strict=True)])
    texts = {
        "controls": [control_text(own) for own in posed if isinstance(own, Control)],
        "references": [reference_text(own) for own in posed if isinstance(own, Reference)],
        "faces": [face_text(own) for own in posed if isinstance(own, Face)],
    }
    return Steered(
        {**_beside(units, found), **{name: [*own] for name, own in texts.items() if own}},
        {name: data for one in found for name, data in one.images.items()},
        tuple(one.map for one, (_, unit) in zip(found, units, strict=True) if unit.save_detected_map),
    )


def _joined(found: Read, at: At) -> Read:
    """Several images of a unit that reads images are one prompt."""
    match found.own:
        case Reference(image=image, method="network") if at.place:
            return found._replace(own=Reference(image=image, joined=True))
        case Face(image=image) if at.place:
            return found._replace(own=Face(image=image, joined=True))
        case _:
            return found


def _beside(units: Sequence[tuple[At, Unit]], found: Sequence[Read]) -> Fields:
    """The other fields of the request: one unit may bring the image that it starts from. Raises Refused."""
    bringing = [(at, one.fields) for (at, _), one in zip(units, found, strict=True) if one.fields]
    for at, _ in bringing[1:]:
        raise at.bad("image", f"unit {bringing[0][0].number} has brought the image to start from already: send one")
    return dict(bringing[0][1]) if bringing else {}


def _posed(units: Sequence[tuple[At, Control | Reference | Face | Pose]]) -> list[Control | Reference | Face]:
    """What units ask for in order, each that says where a face is put together with the unit of a face before it, or
    else the first behind it. Raises Refused."""
    found = {place: own for place, (_, own) in enumerate(units) if not isinstance(own, Pose)}
    free = [place for place, own in found.items() if isinstance(own, Face) and not own.joined]
    for place, (at, own) in enumerate(units):
        if isinstance(own, Pose):
            before = [one for one in free if one < place]
            if not free:
                raise at.bad("module", f"{KEYPOINTS} needs a unit with a face: {FACE_MODULES[-1]}")
            chosen = before[-1] if before else free[0]
            free.remove(chosen)
            face = found[chosen]
            assert isinstance(face, Face)
            found[chosen] = _together(face, at, own.face)
    return list(found.values())


def _together(face: Face, at: At, pose: Face) -> Face:
    """Raises Refused where both do not act at the same time and place."""
    for name, theirs in (("start", "guidance_start"), ("end", "guidance_end"), ("passes", "hr_option")):
        if getattr(face, name) != getattr(pose, name):
            raise at.bad(theirs, "it is not that of the unit with the face: give both the same")
    if pose.mask:
        raise at.bad("effective_region_mask", "where a face acts, the unit with the face says")
    return replace(face, control=pose.model, control_weight=pose.weight, pose=pose.image)


def _enabled(args: Sequence[object], warn: list[str]) -> Iterator[tuple[At, Unit]]:
    """The units that act. Arguments that are null, or a switch, are those of old pages."""
    for number, given in enumerate(args):
        at = At(number)
        if given is None or isinstance(given, bool):
            continue
        if not isinstance(given, Mapping):
            raise at.bad("args", "it is no object with the fields of a unit")
        unit = _unit(at, cast("Mapping[str, object]", given))
        if unit is None or unit.enabled is False:
            continue
        if unit.enabled or _asks(unit):
            yield from _each(at, unit)
        else:
            warn.append(f"ControlNet unit {number}: it names no model, and changes nothing")


def _each(at: At, unit: Unit) -> Iterator[tuple[At, Unit]]:
    """A unit for each of its images, as A1111 unfolds it; two texts are an image and its mask."""
    given = cast("list[object]", unit.image) if isinstance(unit.image, list) else []
    match given:
        case [] | [_] | [str(), str() | None]:
            yield at, unit
        case _:
            for place, image in enumerate(given):
                yield replace(at, place=place), unit.model_copy(update={"image": image})


def _unit(at: At, given: Mapping[str, object]) -> Unit | None:
    """None for one that is switched off: it may hold anything."""
    try:
        unit = Unit.model_validate(given)
        return unit.model_copy(update={"module": module_of(unit.module)})
    except ValidationError as error:
        errors = {str(one["loc"][0]): one["msg"] for one in error.errors(include_url=False, include_input=False)}
        if "enabled" not in errors and given.get("enabled") in (False, 0, "false", "False"):
            return None
        name, reason = next(iter(errors.items()))
        raise at.bad(name, reason.removeprefix("Value error, ")) from None


def _asks(unit: Unit) -> bool:
    """Some versions take a unit that says nothing as enabled and some do not: it is where it names a model or works
    without one."""
    return folded(unit.model) not in NONE or folded(unit.module).startswith("reference")
