"""What txt2img and img2img answer: images, the request with its defaults, and `info`, which is JSON as text."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from atelier import __version__
from atelier.api.sdapi.bodies import Generation
from atelier.api.sdapi.fields import Fields
from atelier.request.events import Json
from atelier.request.infotext.keys import Settings
from atelier.request.infotext.read import read
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.settings import settings_of
from atelier.runtime.jobs.job import Job

SAID_APART = frozenset(
    {
        *("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model hash", "Model", "Batch size", "Batch pos", "Version"),
        *("Face restoration", "Denoising strength", "Variation seed", "Variation seed strength", "Clip skip"),
        *("Seed resize from", "User", "Dtype", "Device", "Libraries", "Pixel hash"),
    }
)
"""Keys of infotexts that `info` says under names of its own, or that are no parameters."""
MOST_WARNINGS = 100
_NUMBER = re.compile(r"-?\d{1,20}(?:\.\d{1,20})?")


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of the answer: base64 of its file, its infotext, its seed, and that of its variation."""

    data: str
    infotext: str
    seed: int
    subseed: int = -1


def encoded(data: bytes) -> str:
    """Base64 without a prefix, as A1111 sends images."""
    return base64.b64encode(data).decode("ascii")


def stamp(seconds: float | None) -> str:
    """A time as A1111 writes it: YYYYMMDDHHMMSS."""
    return datetime.fromtimestamp(seconds or 0.0, UTC).strftime("%Y%m%d%H%M%S") if seconds else "0"


def answer(
    body: Generation,
    fields: Fields,
    jobs: Sequence[Job],
    pictures: Sequence[Picture],
    *,
    pages: Sequence[Picture] = (),
    only_pages: bool = False,
    maps: Sequence[str] = (),
    warnings: Sequence[str] = (),
    extra: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """The whole answer. fields: of the first request; jobs: that were done; pictures: theirs, in order; pages: of them
    side by side, which come first, or are all that is sent; maps: of units of ControlNet, in base64, which come last,
    without infotexts."""
    told = [*warnings, *(warning for job in jobs for warning in job.warnings)]
    info = info_of(fields, jobs, pictures, extra or {}, list(dict.fromkeys(told))[:MOST_WARNINGS])
    sent = [*pages, *(() if only_pages else pictures)]
    info |= {"index_of_first_image": len(pages), "infotexts": [picture.infotext for picture in sent]}
    return {
        "images": [*(picture.data for picture in sent), *maps] if body.send_images else [],
        "parameters": echo(body),
        "info": json.dumps(info),
    }


def echo(body: Generation) -> dict[str, Json]:
    """The request with its defaults; images only where they are asked for."""
    said: dict[str, Json] = body.model_dump(mode="json")
    if not said.get("include_init_images"):
        said |= {name: None for name in ("init_images", "mask") if name in said}
    return said


def info_of(
    fields: Fields, jobs: Sequence[Job], pictures: Sequence[Picture], extra: Mapping[str, Json], warnings: list[str]
) -> dict[str, Json]:
    """What A1111 calls info: of the first image, and lists over all; warnings is ours, and says what was not done."""
    found = [read(picture.infotext) for picture in pictures]
    all_settings = [settings_of(one).settings for one in found]
    first = all_settings[0] if all_settings else Settings(prompt=str(fields.get("prompt") or ""))
    said = _lists(all_settings, pictures)
    return {
        **_of_first(first, fields),
        **said,
        **{name: _head(said[f"all_{name}s"], default) for name, default in _single(first).items()},
        "extra_generation_params": {**(_extra(found[0]) if found else {}), **extra},
        "index_of_first_image": 0,
        "infotexts": [picture.infotext for picture in pictures],
        "styles": fields.get("styles", []),
        "job_timestamp": stamp(jobs[0].started or jobs[0].created) if jobs else "0",
        "version": f"Atelier {__version__}",
        "job_ids": [job.id for job in jobs],
        "warnings": list[Json](warnings),
    }


def _single(first: Settings) -> dict[str, Json]:
    """What is the first of a list, and what it is where nothing was generated."""
    return {"prompt": first.prompt, "negative_prompt": first.negative_prompt, "seed": -1, "subseed": -1}


def _head(values: Json, default: Json) -> Json:
    return values[0] if isinstance(values, list) and values else default


def _lists(settings: Sequence[Settings], pictures: Sequence[Picture]) -> dict[str, Json]:
    """What there is for each image."""
    return {
        "all_prompts": [one.prompt for one in settings],
        "all_negative_prompts": [one.negative_prompt for one in settings],
        "all_seeds": [picture.seed for picture in pictures],
        "all_subseeds": [picture.subseed for picture in pictures],
    }


def _of_first(first: Settings, fields: Fields) -> dict[str, Json]:
    """What is the same for all images, as the first one's infotext says it."""
    width, height = first.size or (fields.get("width"), fields.get("height"))
    resized = first.seed_resize or (0, 0)
    return {
        "subseed_strength": first.variation_strength or 0,
        "width": width,
        "height": height,
        "sampler_name": first.sampler or str(fields.get("sampler") or ""),
        "cfg_scale": first.cfg_scale if first.cfg_scale is not None else fields.get("cfg_scale"),
        "steps": first.steps if first.steps is not None else fields.get("steps"),
        "batch_size": fields.get("batch_size", 1),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": first.model,
        "sd_model_hash": first.model_hash,
        "sd_vae_name": first.vae,
        "sd_vae_hash": first.vae_hash,
        "seed_resize_from_w": resized[0],
        "seed_resize_from_h": resized[1],
        "denoising_strength": first.denoising_strength,
        "clip_skip": first.clip_skip or 1,
        "is_using_inpainting_conditioning": first.conditional_mask_weight is not None,
    }


def _extra(found: Infotext) -> dict[str, Json]:
    """The other keys of an infotext, numbers as numbers."""
    return {name: _value(text) for name, text in found.pairs if name not in SAID_APART}


def _value(text: str) -> Json:
    if not _NUMBER.fullmatch(text) or len(text) > 15:
        return text
    return float(text) if "." in text else int(text)
