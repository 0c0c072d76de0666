"""What to tell about a request that generates otherwise than it reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.latent_hints import SCALES, suggested_scale
from atelier.diffusion.catalogue import AUTOMATIC, resolve_schedule
from atelier.families.telling import Telling
from atelier.nn.ports import Conditioning
from atelier.request.groups import Sizes
from atelier.request.model import Request
from atelier.request.resolve import Method
from atelier.request.resolved import ModelRef
from atelier.request.table import given


def contradictions(request: Request) -> list[str]:
    """What one field of a request says and another takes back."""
    noise, own, notes = request.noise, request.sampling, list[str]()
    if noise.variation_seed is not None and not noise.variation_strength:
        notes.append("variation_seed: it has no effect without a variation_strength")
    if own.s_churn and 0 < own.s_tmax < own.s_tmin:
        notes.append(f"s_churn: it has no effect, as s_tmin {own.s_tmin:g} is above s_tmax {own.s_tmax:g}")
    own, layout = request.postprocess, request.layout
    if own is not None and not own.is_asked and (said := _said(request, "postprocess_")):
        notes.append(f"{said}: nothing is enlarged, give postprocess_upscale_by or postprocess_upscale_to")
    if own is not None and own.upscale_by is not None and max(own.upscale_to or (0, 0)):
        notes.append("postprocess_upscale_by: it has no effect, as postprocess_upscale_to is given")
    if not layout.regions and (said := _said(request, "region_")):
        notes.append(f"{said}: there are no regions, give --region")
    return notes


def unheard(request: Request, models: Sequence[Checkpoint]) -> list[str]:
    """What is to be told of the image that no network of the models is told."""
    asked = sorted(given(request.sizes) & Sizes.model_fields.keys())
    if not asked or any(_is_told_sizes(model) for model in models):
        return []
    return [f"{', '.join(asked)}: only Stable Diffusion XL is told sizes; it has no effect"]


def doubted(models: Sequence[tuple[ModelRef, Checkpoint]]) -> list[str]:
    """Autoencoders whose names say that they are for other latents than a model's."""
    notes = list[str]()
    for reference, model in models:
        for part in reference.parts:
            supposed = suggested_scale(part.name) if part.role == "autoencoder" else None
            if supposed is not None and model.latent.scale in SCALES and supposed != model.latent.scale:
                whose = f"{SCALES[supposed]}, and {model.name} is of {SCALES[model.latent.scale]}"
                notes.append(f"vae {part.name}: its name says that it is of {whose}: images may be noise")
    return notes


def _is_told_sizes(model: Checkpoint) -> bool:
    text = Conditioning(torch.zeros(1, 1), torch.zeros(1))
    return model.family.tell(text, Telling(1, 1)).sizes is not None


def _said(request: Request, prefix: str) -> str:
    return ", ".join(sorted(name for name in given(request) if name.startswith(prefix)))


def overruled(request: Request, method: Method) -> list[str]:
    """A schedule that is not taken, as the name of the sampler says another."""
    named = request.scheduler
    if named is None or named.strip().casefold() == AUTOMATIC.casefold():
        return []
    taken, sampler = method.own.scheduler, request.sampler
    is_taken = resolve_schedule(named).name == taken
    return [] if is_taken else [f"scheduler {named} is ignored: the sampler's name, {sampler}, says {taken}"]
