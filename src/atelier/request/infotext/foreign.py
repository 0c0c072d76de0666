"""Dialects that are JSON or command lines: Fooocus, InvokeAI, NovelAI, Draw Things, SwarmUI, in A1111's words.

Each reader takes the fields of one dialect and gives the same record that a text in A1111's form gives. A field that
has no word there keeps its own name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import cast

from atelier.request.infotext.fields import Fields, as_fields, hash_of, pairs_of, sampler_of, size_of, text_of
from atelier.request.infotext.plain import read_plain
from atelier.request.infotext.record import Infotext


def read_fields(found: Fields) -> Infotext | None:
    """The record of a JSON object in a dialect that is known; None for others."""
    for marks, reader in _READERS:
        if marks <= found.keys() and (read := reader(found)):
            return read
    return read_plain(found)


def read_civitai(found: Fields, graph: Infotext | None) -> Infotext | None:
    """The record of what Civitai's own site writes beside its graph, which knows what is not said here; else None."""
    if "prompt" not in found:
        return None
    known = {
        "Steps": found.get("steps"),
        "Sampler": found.get("sampler"),
        "CFG scale": found.get("cfgScale"),
        "Seed": found.get("seed"),
        "Size": size_of(found),
        "Clip skip": found.get("clipSkip"),
    }
    used = {"prompt", "negativePrompt", "steps", "sampler", "cfgScale", "seed", "width", "height", "clipSkip"}
    own = (*pairs_of(known), *pairs_of({key: value for key, value in found.items() if key not in used}))
    more = [pair for pair in (graph.pairs if graph else ()) if pair[0] in {"Size", "Model"} - dict(own).keys()]
    prompt, negative = (str(found.get(name) or "") for name in ("prompt", "negativePrompt"))
    return Infotext(prompt, negative, (*own, *more), "civitai", dict(found))


def read_dream(text: str) -> Infotext | None:
    """The record of InvokeAI's old command line: `"prompt [negative]" -s 50 -S 1 -W 512 -H 512 -C 7.5 -A k_lms`, with
    or without the quotes, the space before values, and `dream>` before it all."""
    text = re.sub(r"^(?:dream|invoke)>\s*", "", text.strip())
    if not re.search(r"\s-[sSWHCA]\s*\S", text):
        return None
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    quoted = text.startswith('"')
    first = next((i for i, word in enumerate(words) if i and _FLAG.fullmatch(word)), len(words))
    prompt, negative = _bracketed(words[0] if quoted else " ".join(words[:first]))
    flags = dict(_flags(words[1 if quoted else first :]))
    if not {"s", "S"} <= flags.keys():
        return None
    size = f"{flags['W']}x{flags['H']}" if {"W", "H"} <= flags.keys() else None
    more = {"Size": size, "Sampler": sampler_of(flags.get("A"))}
    pairs = pairs_of({name: flags.get(flag) for flag, name in _DREAM.items()} | more)
    return Infotext(prompt, negative, pairs, "invokeai", flags)


_FLAG = re.compile(r"-(?:[a-zA-Z][\d.]*|cf|A[a-z]\w*|-[a-z][\w-]*)")
_DREAM = {"s": "Steps", "S": "Seed", "C": "CFG scale", "f": "Denoising strength"}


def _flags(words: list[str]) -> Iterator[tuple[str, str]]:
    name, values = "", list[str]()
    for word in words:
        found = re.fullmatch(r"-(-[\w-]+|cf|[a-zA-Z])(.*)", word)
        if found is None:
            values.append(word)
            continue
        if name:
            yield name, " ".join(values)
        name, values = found[1], [found[2]] if found[2] else []
    if name:
        yield name, " ".join(values)


def _fooocus(found: Fields) -> Infotext:
    refiner = text_of(found.get("refiner_model"))
    known = {
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
    used = {
        "steps",
        "sampler",
        "scheduler",
        "guidance_scale",
        "seed",
        "resolution",
        "width",
        "height",
        "base_model_hash",
        "base_model",
        "clip_skip",
        "refiner_model",
        "refiner_switch",
        "full_prompt",
        "full_negative_prompt",
    }
    return _record("fooocus", found, known, used | {"version"}, last={"Version": found.get("version")})


def _invoke_metadata(found: Fields) -> Infotext:
    model, vae = as_fields(found.get("model")), as_fields(found.get("vae"))
    known = {
        "Steps": found.get("steps"),
        "Sampler": sampler_of(found.get("scheduler")),
        "Schedule type": _invoke_schedule(found.get("scheduler")),
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
        "RNG": {"None": None, "cpu": "CPU"}.get(str(found.get("rand_device")), "GPU"),
    }
    used = {"steps", "scheduler", "cfg_scale", "cfg_rescale_multiplier", "seed", "width", "height", "model", "vae"}
    used |= {"strength", "clip_skip", "rand_device", "app_version", "guidance"}
    prompts = ("positive_prompt", "negative_prompt")
    last = {"Version": found.get("app_version")}
    return _record("invokeai", found, known, used, prompts=prompts, last=last)


def _invoke_sd_metadata(found: Fields) -> Infotext:
    several = found.get("images")
    first = cast("list[object]", several)[:1] if isinstance(several, list) else []
    image = as_fields(found.get("image")) or as_fields(next(iter(first), None))
    prompt, negative = _bracketed(_invoke_prompt(image.get("prompt")))
    known = {
        "Steps": image.get("steps"),
        "Sampler": sampler_of(image.get("sampler")),
        "CFG scale": image.get("cfg_scale"),
        "Seed": image.get("seed"),
        "Size": size_of(image),
        "Model hash": hash_of(found.get("model_hash")),
        "Model": found.get("model_weights") or found.get("model"),
        "Denoising strength": image.get("strength"),
        "Tiling": "True" if image.get("seamless") is True else None,
    }
    last = {"Version": found.get("app_version")}
    return Infotext(prompt, negative, (*pairs_of(known), *pairs_of(last)), "invokeai", dict(found))


def _invoke_prompt(value: object) -> str:
    if not isinstance(value, list):
        return str(value or "")
    items = cast("list[object]", value)
    return " ".join(str(as_fields(item).get("prompt", "")) or str(item) for item in items)


def _novelai(found: Fields) -> Infotext | None:
    comment = as_fields(found.get("Comment"))
    if "steps" not in comment:
        return None
    known = {
        "Steps": comment.get("steps"),
        "Sampler": sampler_of(comment.get("sampler")),
        "Schedule type": _schedule(comment.get("noise_schedule")),
        "CFG scale": comment.get("scale"),
        "CFG rescale": comment.get("cfg_rescale"),
        "Seed": comment.get("seed"),
        "Size": size_of(comment),
        "Model": found.get("Source"),
        "Clip skip": 2,
        "ENSD": 31337,
    }
    used = {"steps", "sampler", "noise_schedule", "scale", "cfg_rescale", "seed", "width", "height", "uc", "prompt"}
    extras = {k: v for k, v in comment.items() if k not in used}
    prompt = _with_characters(comment.get("prompt") or found.get("Description"), comment.get("v4_prompt"))
    negative = _with_characters(comment.get("uc"), comment.get("v4_negative_prompt"))
    pairs = (*pairs_of(known), *pairs_of(extras))
    return Infotext(prompt, negative, pairs, "novelai", {**found, **comment})


def _with_characters(prompt: object, v4: object) -> str:
    """A prompt of NovelAI, and behind it what it says of single characters since version 4, divided by BREAK: NovelAI
    reads each by itself."""
    caption = as_fields(as_fields(v4).get("caption"))
    several = caption.get("char_captions")
    items = cast("list[object]", several) if isinstance(several, list) else []
    texts = [str(prompt or caption.get("base_caption") or ""), *(as_fields(i).get("char_caption") for i in items)]
    return " BREAK ".join(text for text in texts if isinstance(text, str) and text.strip())


def _novelai_comment(found: Fields) -> Infotext | None:
    return _novelai({"Comment": dict(found)})


def _draw_things(found: Fields) -> Infotext:
    v2 = as_fields(found.get("v2"))
    strength = found.get("strength")
    known = {
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
    used = {"steps", "sampler", "scale", "shift", "seed", "size", "model", "strength", "mask_blur", "profile", "v2"}
    return _record("draw-things", found, known, used, prompts=("c", "uc"))


def _swarm(found: Fields) -> Infotext:
    inner = as_fields(found.get("sui_image_params"))
    vae, layer = str(inner.get("vae") or ""), inner.get("clipstopatlayer")
    known = {
        "Steps": inner.get("steps"),
        "Sampler": inner.get("sampler") or inner.get("comfyuisampler"),
        "Schedule type": inner.get("scheduler") or inner.get("comfyuischeduler"),
        "CFG scale": inner.get("cfgscale"),
        "Seed": inner.get("seed"),
        "Size": size_of(inner),
        "Model": inner.get("model"),
        "VAE": vae if vae not in {"None", "Automatic"} else None,
        "Clip skip": -layer if isinstance(layer, int) and layer < -1 else None,
        "Variation seed": inner.get("variationseed"),
        "Variation seed strength": inner.get("variationseedstrength"),
        "Denoising strength": inner.get("initimagecreativity"),
    }
    used = {"steps", "sampler", "scheduler", "cfgscale", "seed", "width", "height", "model", "vae", "swarm_version"}
    used |= {"comfyuisampler", "comfyuischeduler", "clipstopatlayer", "variationseed", "variationseedstrength"}
    used |= {"initimagecreativity"} | ({"resolution"} if known["Size"] else set())
    last = {"Version": inner.get("swarm_version")}
    return _record("swarmui", inner, known, used, prompts=("prompt", "negativeprompt"), last=last)


_READERS: tuple[tuple[frozenset[str], Callable[[Fields], Infotext | None]], ...] = (
    (frozenset({"sui_image_params"}), _swarm),
    (frozenset({"guidance_scale", "base_model"}), _fooocus),
    (frozenset({"generation_mode", "scheduler"}), _invoke_metadata),
    (frozenset({"generation_mode", "positive_prompt"}), _invoke_metadata),
    (frozenset({"positive_prompt", "scheduler"}), _invoke_metadata),
    (frozenset({"image", "app_id"}), _invoke_sd_metadata),
    (frozenset({"images", "app_id"}), _invoke_sd_metadata),
    (frozenset({"Comment"}), _novelai),
    (frozenset({"uc", "sampler", "steps", "scale", "v2"}), _draw_things),
    (frozenset({"c", "sampler", "steps", "scale"}), _draw_things),
    (frozenset({"uc", "sampler", "steps", "scale"}), _novelai_comment),
)
"""(fields that a dialect always has, its reader), the first that fits is taken."""


def _invoke_schedule(value: object) -> str | None:
    return "Karras" if isinstance(value, str) and value.endswith("_k") else None


def _schedule(value: object) -> str | None:
    return {"karras": "Karras", "exponential": "Exponential", "polyexponential": "Polyexponential"}.get(str(value))


def _bracketed(prompt: str) -> tuple[str, str]:
    """InvokeAI before 3.0 writes what to avoid in square brackets inside the prompt."""
    negative = [found.strip() for found in re.findall(r"\[([^\[\]]*)\]", prompt)]
    if not negative:
        return prompt.strip(), ""
    *before, last = re.split(r"\[[^\[\]]*\]", prompt)
    return "".join((*map(str.rstrip, before), last)).strip(), ", ".join(negative)


def _record(
    dialect: str,
    found: Fields,
    known: Fields,
    used: set[str],
    *,
    prompts: tuple[str, str] = ("prompt", "negative_prompt"),
    last: Fields | None = None,
) -> Infotext:
    extras = {k: v for k, v in found.items() if k not in used and k not in prompts}
    prompt, negative = (str(found.get(name) or "") for name in prompts)
    pairs = (*pairs_of(known), *pairs_of(extras), *pairs_of(last or {}))
    return Infotext(prompt, negative, pairs, dialect, dict(found))


def _plus_one(value: object) -> int | None:
    """InvokeAI counts the layers that are left out, A1111 from 1."""
    return value + 1 if isinstance(value, int) and value > 0 else None
