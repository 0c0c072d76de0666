"""NovelAI: JSON in the PNG chunk Comment, or that JSON alone."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.fields import Fields, as_fields, pairs_of, sampler_of, size_of
from atelier.request.infotext.keys import Settings
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.sampler import novelai_sampler

_USED = frozenset(
    {"steps", "sampler", "noise_schedule", "scale", "cfg_rescale", "seed", "width", "height", "uc", "prompt"}
)
_SCHEDULES = {"karras": "Karras", "exponential": "Exponential", "polyexponential": "Polyexponential"}


def detects(source: Source) -> bool:
    return "steps" in as_fields(source.fields.get("Comment"))


def read(source: Source) -> Infotext:
    return _record(source.fields, as_fields(source.fields.get("Comment")))


def detects_comment(source: Source) -> bool:
    return {"uc", "sampler", "steps", "scale"} <= source.fields.keys()


def read_comment(source: Source) -> Infotext:
    return _record({"Comment": dict(source.fields)}, dict(source.fields))


def _record(found: Fields, comment: Fields) -> Infotext:
    extras = {k: v for k, v in comment.items() if k not in _USED}
    prompt = _with_characters(comment.get("prompt") or found.get("Description"), comment.get("v4_prompt"))
    negative = _with_characters(comment.get("uc"), comment.get("v4_negative_prompt"))
    pairs = (*pairs_of(_known(found, comment)), *pairs_of(extras))
    return Infotext(prompt, negative, pairs, "novelai", {**found, **comment})


def _known(found: Fields, comment: Fields) -> dict[str, object]:
    """Clip skip and ENSD are what A1111 takes for NovelAI's own (docs/compatibility/infotexts.md)."""
    return {
        "Steps": comment.get("steps"),
        "Sampler": sampler_of(comment.get("sampler")),
        "Schedule type": _SCHEDULES.get(str(comment.get("noise_schedule"))),
        "CFG scale": comment.get("scale"),
        "CFG rescale": comment.get("cfg_rescale"),
        "Seed": comment.get("seed"),
        "Size": size_of(comment),
        "Model": found.get("Source"),
        "Clip skip": 2,
        "ENSD": 31337,
    }


def _with_characters(prompt: object, v4: object) -> str:
    """A prompt of NovelAI, and behind it what it says of single characters since version 4, divided by BREAK: NovelAI
    reads each by itself."""
    caption = as_fields(as_fields(v4).get("caption"))
    several = caption.get("char_captions")
    items = cast("list[object]", several) if isinstance(several, list) else []
    texts = [str(prompt or caption.get("base_caption") or ""), *(as_fields(i).get("char_caption") for i in items)]
    return " BREAK ".join(text for text in texts if isinstance(text, str) and text.strip())


def settle(settings: Settings) -> Settings:
    return replace(settings, sampler=novelai_sampler(settings.sampler))


SPECS = (
    Dialect(
        "novelai", (Form(70, detects, read), Form(90, detects_comment, read_comment)), rng=rng("nv"), settle=settle
    ),
)
