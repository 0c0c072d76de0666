"""Draw Things: JSON, or A1111's form with the CFG scale called Guidance Scale."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source
from atelier.request.infotext.fields import Fields, as_fields, record_of
from atelier.request.infotext.record import Infotext

_ALWAYS = frozenset({"sampler", "steps", "scale"})
_USED = frozenset(
    {"steps", "sampler", "scale", "shift", "seed", "size", "model", "strength", "mask_blur", "profile", "v2"}
)


def is_draw_things(found: Fields) -> bool:
    """NovelAI has the same fields, but not these two."""
    return found.keys() >= _ALWAYS and ({"uc", "v2"} <= found.keys() or "c" in found)


def detects(source: Source) -> bool:
    return is_draw_things(source.fields)


def read(source: Source) -> Infotext:
    return record_of("draw-things", source.fields, _known(source.fields), _USED, prompts=("c", "uc"))


def _known(found: Fields) -> dict[str, object]:
    v2, strength = as_fields(found.get("v2")), found.get("strength")
    return {
        "Steps": found.get("steps"),
        "Sampler": found.get("sampler"),
        "CFG scale": found.get("scale"),
        "Distilled CFG Scale": v2.get("guidanceEmbed"),
        "Shift": found.get("shift"),
        "Seed": found.get("seed"),
        "Size": found.get("size"),
        "Model": found.get("model"),
        "Denoising strength": strength if strength != 1 else None,
        "Clip skip": v2.get("clipSkip"),
        "Mask blur": found.get("mask_blur"),
    }


def detects_text(source: Source) -> bool:
    return "Guidance Scale" in source.values and "CFG scale" not in source.values


def read_text(source: Source) -> Infotext:
    return source.lines.record("draw-things")


SPECS = (Dialect("draw-things", (Form(80, detects, read), Form(200, detects_text, read_text))),)
