"""JSON objects of programs that have no reader of their own: a prompt and numbers under names that say so."""

from __future__ import annotations

import re
from collections.abc import Mapping

from atelier.request.infotext.dialect import Dialect, Form, Source
from atelier.request.infotext.fields import Fields, as_fields, pairs_of, sampler_of, size_of
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.sampler import is_schedule

_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "positiveprompt", "positive"),
    "negative": ("negativeprompt", "negative", "uc"),
    "Steps": ("steps", "numinferencesteps", "samplingsteps", "numsteps"),
    "Sampler": ("sampler", "samplername"),
    "Schedule type": ("scheduler", "scheduletype", "schedulername"),
    "CFG scale": ("cfgscale", "guidancescale", "cfg", "guidance"),
    "Distilled CFG Scale": ("distilledcfgscale", "distilledguidancescale"),
    "Seed": ("seed",),
    "width": ("width", "imgwidth", "imagewidth"),
    "height": ("height", "imgheight", "imageheight"),
    "resolution": ("resolution", "size"),
    "Model hash": ("modelhash", "sdmodelhash", "basemodelhash"),
    "Model": (
        *("model", "modelname", "basemodel", "basemodelname", "usestablediffusionmodel", "sdmodelname", "checkpoint"),
    ),
    "VAE": ("vae", "vaename", "sdvaename", "sdvae", "usevaemodel"),
    "Variation seed": ("subseed", "variationseed"),
    "Variation seed strength": ("subseedstrength", "variationseedstrength", "variationstrength"),
    "Denoising strength": ("denoisingstrength", "promptstrength"),
    "Clip skip": ("clipskip",),
    "ENSD": ("etanoiseseeddelta",),
    "Tiling": ("tiling",),
    "Hires upscale": ("hrscale",),
    "Hires upscaler": ("hrupscaler",),
    "Hires steps": ("hrsecondpasssteps",),
    "hires": ("enablehr",),
    "source": ("initimages", "initimage"),
}
"""What programs call things: letters and digits of a field's name, folded."""
_MODEL_NAMES = ("modelFileName", "model_name", "name")
_MODEL_HASH = re.compile(r"[0-9a-fA-F]{8,64}")


def detects(source: Source) -> bool:
    return is_plain(source.fields)


def read(source: Source) -> Infotext:
    return read_plain(source.fields)


def is_plain(found: Fields) -> bool:
    """Whether a JSON object has a prompt, and steps or a seed."""
    names = _names(found)
    return "prompt" in names and bool({"Steps", "Seed"} & names.keys()) and isinstance(found[names["prompt"]], str)


def _names(found: Fields) -> dict[str, str]:
    """The names of fields by what they mean."""
    folded = {re.sub(r"[\W_]", "", name).casefold(): name for name in reversed(tuple(found))}
    return {key: folded[n] for key, ways in _NAMES.items() if (n := next((w for w in ways if w in folded), None))}


def read_plain(found: Fields) -> Infotext:
    """The record of a JSON object for which `is_plain` is true."""
    names = _names(found)
    values = {key: found[name] for key, name in names.items()}
    known = _known(values)
    used = {name for key, name in names.items() if key in known or key in _READ}
    extras = {name: value for name, value in found.items() if name not in used}
    prompt, negative = (str(values.get(name) or "") for name in ("prompt", "negative"))
    return Infotext(prompt, negative, (*pairs_of(known), *pairs_of(extras)), "json", dict(found))


_READ = frozenset({"prompt", "negative", "width", "height", "resolution", "hires"})
"""What is no key by itself."""


def _known(values: Fields) -> dict[str, object]:
    """Values by A1111's keys. A model and a VAE may be objects of their own."""
    known: dict[str, object] = {
        key: value for key, value in values.items() if key[0].isupper() and isinstance(value, str | int | float)
    }
    known |= _model(values.get("Model"), known) | _method(known) | _second_pass(values, known)
    known["Model hash"] = _model_hash(known.get("Model hash"))
    known["Size"] = size_of(values)
    known["Clip skip"] = _clip_skip(known.get("Clip skip"))
    known["Tiling"] = "True" if known.get("Tiling") is True else None
    if known.get("Variation seed strength") in {None, 0, "0"}:
        known |= {"Variation seed": None, "Variation seed strength": None}
    return known


def _model(value: object, known: Fields) -> dict[str, object]:
    fields = as_fields(value)
    if not fields:
        return {}
    name = next((text for name in _MODEL_NAMES if isinstance(text := fields.get(name), str)), None)
    return {"Model": name, "Model hash": known.get("Model hash") or fields.get("hash")}


def _method(known: Fields) -> dict[str, object]:
    """The sampler and the schedule. Programs built on diffusers call their samplers schedulers."""
    sampler, schedule = known.get("Sampler"), known.get("Schedule type")
    if not sampler and isinstance(schedule, str) and not is_schedule(schedule):
        return {"Sampler": sampler_of(schedule), "Schedule type": None}
    return {"Sampler": sampler_of(sampler)}


def _second_pass(values: Fields, known: Fields) -> dict[str, object]:
    """What the API of A1111 says of a second pass counts only if there is one, and then or with a source alone a
    denoising strength does."""
    if values.get("hires") is not False:
        return {}
    unused = {"Hires upscale", "Hires upscaler", "Hires steps"}
    if not values.get("source"):
        unused.add("Denoising strength")
    return {**dict.fromkeys(unused & known.keys())}


def _clip_skip(value: object) -> object:
    """Easy Diffusion says whether the last layer is left out."""
    return {"True": 2, "False": None}.get(str(value), value)


def read_chunks(chunks: Mapping[str, str]) -> Infotext | None:
    """The record of text chunks that hold a field each, as Easy Diffusion writes them; None for others."""
    fields = {name: text for name, text in chunks.items() if text != "None"}
    return read_plain(fields) if is_plain(fields) else None


def _model_hash(value: object) -> str | None:
    return value[:10] if isinstance(value, str) and _MODEL_HASH.fullmatch(value) else None


SPECS = (Dialect("json", (Form(99, detects, read),)),)
