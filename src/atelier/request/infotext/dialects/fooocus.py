"""Fooocus: JSON, or A1111's form."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.fields import Fields, record_of, size_of, text_of
from atelier.request.infotext.record import Infotext

_USED = frozenset(
    {
        *("steps", "sampler", "scheduler", "guidance_scale", "seed", "resolution", "width", "height", "version"),
        *("base_model_hash", "base_model", "clip_skip", "refiner_model", "refiner_switch"),
        *("full_prompt", "full_negative_prompt"),
    }
)


def detects(source: Source) -> bool:
    return {"guidance_scale", "base_model"} <= source.fields.keys()


def read(source: Source) -> Infotext:
    found = source.fields
    return record_of("fooocus", found, _known(found), _USED, last={"Version": found.get("version")})


def _known(found: Fields) -> dict[str, object]:
    refiner = text_of(found.get("refiner_model"))
    return {
        "Steps": found.get("steps"),
        "Sampler": found.get("sampler"),
        "Schedule type": found.get("scheduler"),
        "CFG scale": found.get("guidance_scale"),
        "Seed": found.get("seed"),
        "Size": size_of(found),
        "Model hash": found.get("base_model_hash"),
        "Model": found.get("base_model"),
        "Clip skip": found.get("clip_skip"),
        "Refiner": refiner if refiner != "None" else None,
        "Refiner switch at": found.get("refiner_switch") if refiner not in {None, "None"} else None,
    }


def detects_text(source: Source) -> bool:
    return source.version.startswith("Fooocus")


def read_text(source: Source) -> Infotext:
    return source.lines.record("fooocus")


SPECS = (Dialect("fooocus", (Form(40, detects, read), Form(130, detects_text, read_text)), rng=rng("cpu")),)
