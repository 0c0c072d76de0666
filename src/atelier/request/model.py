"""The request: everything that can be asked of an image."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationInfo, field_validator

from atelier.request import fields as f
from atelier.request.fields import SIDE_STEP
from atelier.request.groups import (
    Autoencoder,
    Group,
    Guidance,
    Hires,
    Inpaint,
    Layout,
    Noise,
    Postprocess,
    Prompting,
    Refining,
    Sampling,
    SdUpscale,
    Sizes,
    Source,
    Steering,
    Views,
    check_side,
)

SEVERAL = " + "
"""Between the names of several text encoders, in infotexts."""


class Request(Group):
    """What is asked for. What is None is chosen by `resolve`, from the model's own defaults.

    A request that exists is within its limits: making one from a bad value raises BadInput, in one line.
    `request.table.request_of` makes one of fields that are not in groups.
    """

    prompt: f.Prompt
    negative_prompt: f.NegativePrompt = ""
    model: f.Model | None = None
    model_hash: f.ModelHash | None = None
    vae: f.Vae | None = None
    text_encoders: f.TextEncoders = ()
    steps: f.Steps | None = None
    sampler: f.Sampler | None = None
    scheduler: f.Scheduler | None = None
    cfg_scale: f.CfgScale | None = None
    seed: f.Seed | None = None
    width: f.Width | None = None
    height: f.Height | None = None
    batch_size: f.BatchSize = 1
    batch_count: f.BatchCount = 1
    output: f.Output | None = None
    prompting: Prompting = Prompting()
    refining: Refining = Refining()
    noise: Noise = Noise()
    sampling: Sampling = Sampling()
    guidance: Guidance = Guidance()
    denoising_strength: f.DenoisingStrength | None = None
    depth: f.DepthMap | None = None
    source: Source | None = None
    inpaint: Inpaint | None = None
    sd_upscale: SdUpscale | None = None
    sizes: Sizes = Sizes()
    steering: Steering = Steering()
    layout: Layout = Layout()
    views: Views | None = None
    hires: Hires | None = None
    postprocess: Postprocess | None = None
    autoencoder: Autoencoder = Autoencoder()

    @field_validator("text_encoders", mode="before")
    @classmethod
    def _as_several(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(SEVERAL)) if isinstance(value, str) else value

    @field_validator("width", "height")
    @classmethod
    def _fits(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None:
            check_side(str(info.field_name), value, SIDE_STEP)
        return value


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who generates: the release of Atelier, the dtype and the device of the network, the libraries that compute."""

    version: str
    dtype: str
    device: str
    libraries: str
