"""`alwayson_scripts`: those whose work is done here become fields, others are told of; ControlNet's: `units`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, cast

from atelier.api.sdapi.fields import Fields, refused
from atelier.api.sdapi.names import NONE, find_model
from atelier.api.sdapi.tolerant import flag, number
from atelier.api.service import Catalogue
from atelier.request.events import Json
from atelier.request.table import FIELDS

Args = Sequence[object]
CONTROLNET = "controlnet"
BUILT_IN = frozenset({"seed", "sampler", "comments", "extra options", "api payload", "sampler extension"})
"""Scripts of A1111, folded, that say nothing which other fields of a body do not."""
SELECTABLE = frozenset(
    {
        "x/y/z plot",
        "prompt matrix",
        "prompts from file or textbox",
        "sd upscale",
        "outpainting mk2",
        "poor man's outpainting",
        "loopback",
        "img2img alternative test",
        "custom code",
    }
)
"""Scripts, folded, that `script_name` chooses, and that may not stand here."""
SOFT = (
    "soft_inpainting_schedule_bias",
    "soft_inpainting_preservation_strength",
    "soft_inpainting_transition_contrast_boost",
    "soft_inpainting_mask_influence",
    "soft_inpainting_difference_threshold",
    "soft_inpainting_difference_contrast",
)
"""The fields of soft inpainting in the order of the script's arguments, behind the one that switches it on."""


class Done(Protocol):
    """What a script's arguments ask for; masked: whether there is a mask."""

    def __call__(self, args: Args, catalogue: Catalogue, /, *, masked: bool) -> Fields: ...


def alwayson(scripts: Mapping[str, object], catalogue: Catalogue, warn: list[str], *, masked: bool) -> Fields:
    """The fields that always-on scripts but ControlNet ask for. Raises Refused (422) for what is no script's arguments,
    and for a script that `script_name` chooses."""
    fields: Fields = {}
    for title, given in scripts.items():
        name = title.strip().casefold()
        args = _args(title, given)
        if name in SELECTABLE:
            raise refused("Cannot have a selectable script in the always on scripts params", "alwayson_scripts")
        if name in DONE:
            fields |= DONE[name](args, catalogue, masked=masked)
        elif name not in BUILT_IN and name != CONTROLNET and is_on(args):
            warn.append(f"alwayson_scripts: {title[:80]!r} is not done here, and changes nothing")
    return fields


def units_in(scripts: Mapping[str, object]) -> Args:
    """The units of ControlNet. Raises Refused (422)."""
    return [
        unit
        for title, given in scripts.items()
        if title.strip().casefold() == CONTROLNET
        for unit in _args(title, given)
    ]


def _args(title: str, given: object) -> Args:
    """The positional arguments of a script; there need not be any."""
    if given is None:
        return ()
    if isinstance(given, Mapping):
        given = cast("Mapping[str, object]", given).get("args", [])
    if given is None or isinstance(given, list):
        return cast("list[object]", given or [])
    raise refused(f"alwayson_scripts: {title[:80]!r} needs a list of args", "alwayson_scripts")


def is_on(args: Args) -> bool:
    """Whether a script is asked to do something, as far as its arguments tell: they begin with a switch, or are objects
    with one."""
    if not args:
        return False
    if isinstance(args[0], bool):
        return args[0]
    objects = [cast("Mapping[str, object]", arg) for arg in args if isinstance(arg, Mapping)]
    switches = [
        value
        for unit in objects
        for name in ("enabled", "enable", "is_enabled")
        if (value := unit.get(name)) is not None
    ]
    return any(switches) if switches else True


def _at(script: str, place: int, name: str) -> str:
    """How messages call an argument."""
    return f"alwayson_scripts: {script} args[{place}] ({name})"


def _switch(value: object, name: str) -> bool:
    try:
        return flag(value)
    except ValueError as error:
        raise refused(f"{name} {str(value)[:60]!r}: {error}", "alwayson_scripts") from None


def _is_switched_on(args: Args, script: str) -> bool:
    return bool(args) and _switch(args[0], _at(script, 0, "on"))


def _number(args: Args, script: str, place: int, field: str) -> Json:
    """An argument that is a number, within the limits of its field."""
    limits, shown = FIELDS[field].limits, f"{_at(script, place, field)} {str(args[place])[:60]!r}"
    try:
        found = float(number(args[place]))
    except ValueError as error:
        raise refused(f"{shown}: {error}", "alwayson_scripts") from None
    if limits is not None and not limits.low <= found <= limits.high:
        raise refused(f"{shown}: must be a number from {limits.low} to {limits.high}", "alwayson_scripts")
    return found


def _soft(args: Args, _: Catalogue, *, masked: bool) -> Fields:
    if not masked or not _is_switched_on(args, "Soft inpainting"):
        return {}
    places = [(name, place) for place, name in enumerate(SOFT, 1) if place < len(args)]
    return {"soft_inpainting": True, **{name: _number(args, "Soft inpainting", place, name) for name, place in places}}


def _refiner(args: Args, catalogue: Catalogue, *, masked: bool) -> Fields:
    """[on, model, switch at]"""
    del masked
    if len(args) < 3 or not _is_switched_on(args, "Refiner") or str(args[1] or "").strip().casefold() in NONE:
        return {}
    model = find_model(catalogue, str(args[1]))
    if model is None:
        message = f"{_at('Refiner', 1, 'refiner')}: model {str(args[1])[:200]!r} not found"
        raise refused(message, "alwayson_scripts")
    return {"refiner": model.name, "refiner_switch_at": _number(args, "Refiner", 2, "refiner_switch_at")}


def _thresholding(args: Args, _: Catalogue, *, masked: bool) -> Fields:
    """[on, mimic scale, percentile, ...]; the twelfth is phi."""
    del masked
    if not _is_switched_on(args, "Dynamic Thresholding"):
        return {}
    places = {"mimic_scale": 1, "mimic_percentile": 2, "mimic_phi": 11}
    found = {
        name: _number(args, "Dynamic Thresholding", place, name) for name, place in places.items() if place < len(args)
    }
    percentile = found.get("mimic_percentile")
    if isinstance(percentile, float) and percentile <= 1:
        found["mimic_percentile"] = percentile * 100
    return found


def _self_attention(args: Args, _: Catalogue, *, masked: bool) -> Fields:
    """[on, scale, threshold of the mask]"""
    del masked
    if not _is_switched_on(args, "Self Attention Guidance"):
        return {}
    return {"sag_scale": _number(args, "Self Attention Guidance", 1, "sag_scale") if len(args) > 1 else 0.75}


DONE: Mapping[str, Done] = MappingProxyType(
    {
        "soft inpainting": _soft,
        "refiner": _refiner,
        "dynamic thresholding (cfg scale fix)": _thresholding,
        "dynamic thresholding": _thresholding,
        "dynamicthresholding (cfg-fix) integrated": _thresholding,
        "self attention guidance": _self_attention,
    }
)
"""Scripts, folded, whose work is done here."""
