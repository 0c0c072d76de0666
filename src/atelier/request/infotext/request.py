"""From what an infotext says to a request that can be generated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from atelier.errors import BadInput
from atelier.request.fields import SIDE_STEP
from atelier.request.guidances import SWITCHED
from atelier.request.infotext.changes import changes as changes_of
from atelier.request.infotext.dialect import dialect_of
from atelier.request.infotext.dialects.stable_diffusion_cpp import NAME as CPP
from atelier.request.infotext.keys import ALL_KEYS, BY_NAME, Settings
from atelier.request.infotext.latent_couple import with_parts_in_places
from atelier.request.infotext.listed import listed_model, listed_networks, unfound_model
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.regional_prompter import with_regions
from atelier.request.infotext.sampler import (
    AUTOMATIC,
    TIMESTEP_SAMPLERS,
    chooses_levels,
    method,
)
from atelier.request.infotext.settings import Reading, settings_of
from atelier.request.infotext.version import version_of
from atelier.request.model import Request
from atelier.request.table import FIELDS, request_of

RNGS: Mapping[str, str] = {
    "cpu": "cpu",
    "nv": "nv",
    "gpu": "nv",
    "cuda": "nv",
    "portable": "portable",
    "std_default": "cpu",
}
"""The key RNG, folded, to the request's noise source. What a graphics card drew, most often one of NVIDIA's, is drawn
again by its software twin. std_default, of C++, nobody draws here; the CPU's is what the program's others look like."""
_SEED_MODES: Mapping[str, str] = {"nvidia gpu": "nv", "torch cpu": "cpu"}
"""What Draw Things' seed modes that draw as others do begin with, folded; the others are its own."""
_TITLE_HASH = re.compile(r"\[[0-9a-fA-F]{6,64}\]$")
"""What A1111 puts behind the name of a model in lists."""
NOT_REQUESTED = frozenset({"batch_size", "size", "extras", "version", "user"})
"""Fields of settings that say how an image came about and are not asked for when it is generated again."""
WITHOUT_EFFECT = NOT_REQUESTED | {
    *("batch_position", "template", "negative_template", "dtype", "device", "libraries", "pixel_hash"),
    *("vae_hash", "init_image_hash", "fp16_lora_cache", "unipc_skip_type"),
    *("hypertile", "hypertile_second_pass", "hypertile_vae", "tiling", "postprocess_crop_to"),
    *("final_denoising_strength", "denoising_curve"),  # each image of a loopback says its own strength
}
"""Fields without a place in a request that change no image by themselves, or are asked for under another name."""
SIDES = frozenset({"width", "height"})

UNCHANGED: Mapping[str, object] = MappingProxyType({})


def interpret(found: Infotext) -> Reading:
    """The typed settings of an infotext in today's terms: the sampler and its schedule apart, the RNG one of ours, the
    seed not negative, a model that a list names its model, what ComfyUI does without saying so said, regions of an
    extension regions."""
    reading = settings_of(found)
    settings = reading.settings
    sampler, scheduler = method(settings.sampler, settings.scheduler, version_of(settings.version))
    hires_sampler, hires_scheduler = method(
        settings.hires_sampler, settings.hires_scheduler, version_of(settings.version)
    )
    dialect = dialect_of(found)
    if (chooses_levels(sampler) and not dialect.keeps_ends) or (dialect.is_a1111 and sampler in TIMESTEP_SAMPLERS):
        scheduler = None
    changed = replace(
        settings,
        sampler=sampler,
        scheduler=scheduler,
        hires_sampler=hires_sampler,
        hires_scheduler=hires_scheduler if settings.hires_sampler or settings.hires_scheduler else None,
        seed=_seed(settings.seed),
        variation_seed=_seed(settings.variation_seed),
        rng=_rng(settings, found),
    )
    warnings = reading.warnings
    if settings.rng is not None and settings.rng.casefold() not in RNGS:
        warnings += (f"RNG: {settings.rng!r} is left out, one of CPU, NV, GPU, portable is needed",)
    if note := unfound_model(found):
        warnings += (note,)
    settled = with_regions(_with_model(dialect.settle(changed), found), found)
    settled, notes = with_parts_in_places(settled, found)
    return replace(reading, settings=settled, warnings=warnings + notes)


def _with_model(settings: Settings, found: Infotext) -> Settings:
    """With the model that only a list names."""
    listed = listed_model(found)
    if listed is None or settings.model_hash:
        return settings
    return replace(settings, model_hash=listed.hash, model=settings.model or listed.name or None)


def to_request(found: Infotext, changes: Mapping[str, object] = UNCHANGED) -> Request:
    """The request that an infotext is, with some fields changed. Its prompt has its choices made, one of `changes` not.

    Raises BadInput if it says nothing, if its numbers are out of range, or if the request cannot be made of it.
    """
    if not found.prompt and "prompt" not in changes and not any(_generates(name) for name, _ in found.pairs):
        raise BadInput(f"infotext: {_without_prompt(found)}; give a prompt")
    settings = interpret(found).checked()
    fields = {
        name: value
        for name in FIELDS
        if name not in NOT_REQUESTED and (value := getattr(settings, name, None)) is not None
    }
    if settings.model is not None:
        is_own = found.dialect == "atelier"
        fields["model"] = settings.model if is_own else _TITLE_HASH.sub("", settings.model).rstrip()
    if settings.size is not None:
        fields |= {"width": _side(settings.size[0]), "height": _side(settings.size[1])}
    if settings.unipc_skip_type is not None and settings.scheduler in {None, AUTOMATIC}:
        fields["scheduler"] = settings.unipc_skip_type  # a schedule here, by this name
    if settings.tiling:
        fields["tile"] = settings.tile or "xy"
    else:
        fields.pop("tile", None)
    if "model" in changes:
        fields.pop("model_hash", None)
    missing = _missing_images(changes)
    fields = {name: value for name, value in fields.items() if FIELDS[name].group not in missing}
    if "outpaint" in {**fields, **changes}:  # the size follows from the image
        fields = {name: value for name, value in fields.items() if name not in SIDES}
    return request_of({**fields, "choices": "prompt" in changes, **changes})


def _generates(name: str) -> bool:
    """Whether a key says how an image is generated, rather than what was done to it later."""
    folded = name.casefold()
    return folded in BY_NAME and not folded.startswith("postprocess ")


def _missing_images(changes: Mapping[str, object]) -> set[str]:
    """The groups of a request that say nothing without an image, which no infotext holds."""
    return {
        group
        for group, image in (("source", "image"), ("inpaint", "mask"), ("sd_upscale", "image"))
        if image not in changes
    }


def without_effect(found: Infotext) -> tuple[str, ...]:
    """The keys of an infotext that changed the image and that no request can say yet, in the order of the table, then
    those that no field takes."""
    settings = interpret(found).settings
    missing = settings.given().keys() - FIELDS.keys() - WITHOUT_EFFECT
    missing -= {one.flag for one in SWITCHED if any(getattr(settings, name) is not None for name in one.by)}
    if found.dialect == CPP:
        missing.discard("distilled_cfg_scale")  # written for all models, used by none that takes no distilled guidance
    named = (key.name for key in ALL_KEYS if key.field in missing)
    return (*named, *changes_of(settings.extras), *listed_networks(found))


def _without_prompt(found: Infotext) -> str:
    """Why nothing can be generated."""
    if found.pairs:
        return f"there is no prompt in it, only {', '.join(name for name, _ in found.pairs[:3])}"
    return f"nothing that can be generated was found in it ({found.dialect})"


def _seed(seed: int | None) -> int | None:
    """torch takes a negative seed as the unsigned number with the same bits; -1 is drawn anew."""
    return seed % 2**64 if seed is not None and seed < -1 else seed


def _side(side: int) -> int:
    return max(side - side % SIDE_STEP, SIDE_STEP)


def _rng(settings: Settings, found: Infotext) -> str | None:
    """Where the noise comes from: what is said of it, Draw Things' mode of seeds, or what is usual in the dialect."""
    mode = (found.get("Seed Mode") or "").strip().casefold()
    alike = next((rng for name, rng in _SEED_MODES.items() if mode.startswith(name)), None)
    return RNGS.get((settings.rng or found.get("RNG") or "").casefold(), alike or dialect_of(found).rng(found))
