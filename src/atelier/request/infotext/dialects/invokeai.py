"""InvokeAI: JSON since 3.0, other JSON before, and a command line before that."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import cast

from atelier.request.infotext.dialect import Dialect, Form, Source
from atelier.request.infotext.fields import Fields, as_fields, hash_of, pairs_of, record_of, sampler_of, size_of
from atelier.request.infotext.record import Infotext

_MARKS = tuple(
    map(
        frozenset,
        (("generation_mode", "scheduler"), ("generation_mode", "positive_prompt"), ("positive_prompt", "scheduler")),
    )
)
_USED = frozenset(
    {
        *("steps", "scheduler", "cfg_scale", "cfg_rescale_multiplier", "seed", "width", "height", "model", "vae"),
        *("strength", "clip_skip", "rand_device", "app_version", "guidance"),
    }
)
_DEVICES: Mapping[str, str | None] = {"None": None, "cpu": "CPU"}
"""Where the noise is drawn, by what is said of it; anything else is a graphics card."""


def detects(source: Source) -> bool:
    return any(marks <= source.fields.keys() for marks in _MARKS)


def read(source: Source) -> Infotext:
    found = source.fields
    prompts = ("positive_prompt", "negative_prompt")
    last = {"Version": found.get("app_version")}
    return record_of("invokeai", found, _known(found), _USED, prompts=prompts, last=last)


def _known(found: Fields) -> dict[str, object]:
    model, vae, scheduler = as_fields(found.get("model")), as_fields(found.get("vae")), found.get("scheduler")
    return {
        "Steps": found.get("steps"),
        "Sampler": sampler_of(scheduler),
        "Schedule type": "Karras" if isinstance(scheduler, str) and scheduler.endswith("_k") else None,
        "CFG scale": found.get("cfg_scale"),
        "CFG rescale": found.get("cfg_rescale_multiplier"),
        "Seed": found.get("seed"),
        "Size": size_of(found),
        "Model hash": hash_of(model.get("hash")),
        "Model": model.get("model_name") or model.get("name"),
        "VAE": vae.get("model_name") or vae.get("name"),
        "Denoising strength": found.get("strength"),
        "Clip skip": _plus_one(found.get("clip_skip")),
        "Distilled CFG Scale": found.get("guidance"),
        "RNG": _DEVICES.get(str(found.get("rand_device")), "GPU"),
    }


def _plus_one(value: object) -> int | None:
    """InvokeAI counts the layers that are left out, A1111 from 1."""
    return value + 1 if isinstance(value, int) and value > 0 else None


def detects_old(source: Source) -> bool:
    return "app_id" in source.fields and bool({"image", "images"} & source.fields.keys())


def read_old(source: Source) -> Infotext:
    found = source.fields
    several = found.get("images")
    first = cast("list[object]", several)[:1] if isinstance(several, list) else []
    image = as_fields(found.get("image")) or as_fields(next(iter(first), None))
    prompt, negative = _bracketed(_old_prompt(image.get("prompt")))
    last = {"Version": found.get("app_version")}
    return Infotext(prompt, negative, (*pairs_of(_old_known(found, image)), *pairs_of(last)), "invokeai", dict(found))


def _old_known(found: Fields, image: Fields) -> dict[str, object]:
    return {
        "Steps": image.get("steps"),
        "Sampler": sampler_of(image.get("sampler")),
        "CFG scale": image.get("cfg_scale"),
        "Seed": image.get("seed"),
        "Size": size_of(image),
        "Model hash": hash_of(found.get("model_hash")),
        "Model": found.get("model_weights") or found.get("model"),
        "Denoising strength": image.get("strength"),
        "Tiling": "True" if image.get("seamless") is True else None,
        **_old_changes(image),
    }


def _old_changes(image: Fields) -> dict[str, object]:
    """What else was done: fields that have no word in A1111's."""
    later = image.get("postprocessing")
    kinds = [
        str(as_fields(item).get("type", "")) for item in cast("list[object]", later if isinstance(later, list) else [])
    ]
    return {
        "Init image": image.get("init_image_path") or ("given" if image.get("type") == "img2img" else None),
        "Variations": image.get("variations") or None,
        "Hires fix": "True" if image.get("hires_fix") is True else None,
        "Postprocess": ", ".join(filter(None, kinds)) or None,
    }


def _old_prompt(value: object) -> str:
    if not isinstance(value, list):
        return str(value or "")
    items = cast("list[object]", value)
    return " ".join(str(as_fields(item).get("prompt", "")) or str(item) for item in items)


def detects_command(source: Source) -> bool:
    return not source.lines.parts.has_line and read_command(source.text) is not None


def read_command_source(source: Source) -> Infotext:
    found = read_command(source.text)
    assert found is not None
    return found


def read_command(text: str) -> Infotext | None:
    """The record of InvokeAI's old command line: `"prompt [negative]" -s 50 -S 1 -W 512 -H 512 -C 7.5 -A k_lms`, with
    or without the quotes, the space before values, and `dream>` before it all."""
    if len(text) > _LONGEST:
        return None
    text = re.sub(r"^(?:dream|invoke)>\s*", "", text.strip())
    if not re.search(r"\s-[sSWHCA]\s*\S", text):
        return None
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    quoted = text.startswith('"')
    first = next((i for i, word in enumerate(words) if i and _FLAG.fullmatch(word)), len(words))
    flags = dict(_flags(words[1 if quoted else first :]))
    if not {"s", "S"} <= flags.keys():
        return None
    prompt, negative = _bracketed(words[0] if quoted else " ".join(words[:first]))
    size = f"{flags['W']}x{flags['H']}" if {"W", "H"} <= flags.keys() else None
    more = {"Size": size, "Sampler": sampler_of(flags.get("A")), "Tiling": "True" if "-seamless" in flags else None}
    pairs = pairs_of({name: flags[flag] or "True" for flag, name in _KEYS.items() if flag in flags} | more)
    return Infotext(prompt, negative, pairs, "invokeai", flags)


_LONGEST = 20_000
"""Characters: `shlex` takes time that grows with the square of a word."""
_FLAG = re.compile(r"-(?:[a-zA-Z][\d.]*|cf|A[a-z]\w*|-[a-z][\w-]*)")
_KEYS = {
    "s": "Steps",
    "S": "Seed",
    "C": "CFG scale",
    "f": "Denoising strength",
    "I": "Init image",
    "M": "Mask",
    "G": "Face restoration",
    "U": "Upscale",
    "v": "Variations",
    "V": "Variations",
    "-hires_fix": "Hires fix",
    "-hires": "Hires fix",
}


def _flags(words: list[str]) -> Iterator[tuple[str, str]]:
    name, values = "", list[str]()
    for word in words:
        found = re.fullmatch(r"-(-[\w-]++|cf|[a-zA-Z])(.*)", word)
        if found is None:
            values.append(word)
            continue
        if name:
            yield name, " ".join(values)
        name, values = found[1], [found[2]] if found[2] else []
    if name:
        yield name, " ".join(values)


def _bracketed(prompt: str) -> tuple[str, str]:
    """InvokeAI before 3.0 writes what to avoid in square brackets inside the prompt."""
    negative = [found.strip() for found in re.findall(r"\[([^\[\]]*)\]", prompt)]
    if not negative:
        return prompt.strip(), ""
    *before, last = re.split(r"\[[^\[\]]*\]", prompt)
    return "".join((*map(str.rstrip, before), last)).strip(), ", ".join(negative)


def rng(found: Infotext) -> str | None:
    """InvokeAI before 3.0 drew where the model was; since then on the CPU, or it says where."""
    return "cpu" if "positive_prompt" in found.source else "nv"


SPECS = (
    Dialect(
        "invokeai",
        (Form(50, detects, read), Form(60, detects_old, read_old), Form(100, detects_command, read_command_source)),
        rng=rng,
    ),
)
