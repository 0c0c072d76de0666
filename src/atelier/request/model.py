"""The request: everything that can be asked of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from atelier.errors import BadInput, nearest
from atelier.request.resolved import Rng


class Limits(NamedTuple):
    """The smallest and the largest value of a field."""

    low: float
    high: float


SIDE_STEP = 8
LIMITS: Mapping[str, Limits] = {
    "steps": Limits(1, 1000),
    "cfg_scale": Limits(0, 100),
    "seed": Limits(-1, 2**64 - 1),
    "width": Limits(64, 4096),
    "height": Limits(64, 4096),
    "batch_size": Limits(1, 64),
    "batch_count": Limits(1, 1000),
    "clip_skip": Limits(1, 12),
    "cfg_rescale": Limits(0, 1),
    "skip_early_cfg": Limits(0, 1),
    "ngms": Limits(0, 1000),
    "variation_seed": Limits(-1, 2**64 - 1),
    "variation_strength": Limits(0, 1),
    "ensd": Limits(-(2**63), 2**63),
    "eta": Limits(0, 100),
    "eta_ddim": Limits(0, 100),
    "s_churn": Limits(0, 1000),
    "s_tmin": Limits(0, 1000),
    "s_tmax": Limits(0, 10**9),
    "s_noise": Limits(0, 100),
    "sigma_min": Limits(0, 1000),
    "sigma_max": Limits(0, 1000),
    "rho": Limits(0, 100),
    "beta_alpha": Limits(0.01, 100),
    "beta_beta": Limits(0.01, 100),
    "unipc_order": Limits(1, 50),
    "denoising_strength": Limits(0, 1),
    "hires_upscale": Limits(1, 16),
    "hires_steps": Limits(0, 1000),
    "hires_cfg_scale": Limits(0, 100),
    "hires_denoising_strength": Limits(0, 1),
}
MAX_SIDE = 65_536

Sides = tuple[Annotated[int, Field(ge=0, le=MAX_SIDE)], Annotated[int, Field(ge=0, le=MAX_SIDE)]]
"""(width, height) in pixels; (0, 0) says nothing."""


def _limited(name: str, default: float | None, description: str) -> Any:  # noqa: ANN401 - pydantic's Field is typed so
    low, high = LIMITS[name]
    return Field(default=default, ge=low, le=high, allow_inf_nan=False, description=description)


class Request(BaseModel):
    """One order for pictures. What is None is chosen by `resolve`, from the model's own defaults.

    A request that exists is within its limits: making one from a bad value raises BadInput, in one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(description="What to paint.")
    negative_prompt: str = Field(default="", description="What to keep away from.")
    model: str | None = Field(default=None, description="Name or path of a model; the embedded one if not given.")
    model_hash: str | None = Field(default=None, description="What its SHA-256 begins with; another one is told.")
    steps: int | None = _limited("steps", None, "Steps of the sampler.")
    sampler: str | None = Field(default=None, description="Name of a sampler.")
    scheduler: str | None = Field(default=None, description="Name of a schedule; the sampler's own if not given.")
    cfg_scale: float | None = _limited("cfg_scale", None, "How strongly to follow the prompt; 1 is no guidance.")
    seed: int | None = _limited("seed", None, "Of the first picture, the next have the next; -1 or nothing: drawn.")
    rng: Rng = Field(default="portable", description="Where noise comes from; cpu and nv as in other programs.")
    width: int | None = _limited("width", None, "In pixels, a multiple of 8.")
    height: int | None = _limited("height", None, "In pixels, a multiple of 8.")
    batch_size: int = _limited("batch_size", 1, "Pictures in a batch; it never changes a picture.")
    batch_count: int = _limited("batch_count", 1, "Batches.")
    output: str | None = Field(default=None, description="File or folder to save in; nothing: pictures stay in memory.")

    styles: tuple[str, ...] = Field(default=(), description="Saved styles to put around the prompts, by name.")
    choices: bool = Field(default=True, description="Whether {a|b} and __name__ in prompts are drawn from the seed.")
    emphasis: str = Field(
        default="Original", description="How (word:1.2) is read: Original, No norm, Ignore, None, Comfy."
    )
    clip_skip: int | None = _limited("clip_skip", None, "Which of the last layers of CLIP is read; 1 is the last.")
    old_timelines: bool = Field(default=False, description="Count [a:b:when] as A1111 did before 1.6.")
    lenient: bool = Field(default=False, description="What is not there (networks, a model of an infotext) only warns.")

    variation_seed: int | None = _limited("variation_seed", None, "Seed of the variation; -1 or nothing: drawn.")
    variation_strength: float = _limited("variation_strength", 0.0, "From the seed's noise to that of the variation.")
    seed_resize: Sides | None = Field(default=None, description="Size of the picture whose noise is to be kept.")
    ensd: int = _limited("ensd", 0, "Added to the seed for all noise after the first (eta noise seed delta).")

    cfg_rescale: float = _limited("cfg_rescale", 0.0, "How far contrast is brought back to that without guidance.")
    skip_early_cfg: float = _limited("skip_early_cfg", 0.0, "Share of the steps at the start without guidance.")
    ngms: float = _limited("ngms", 0.0, "Below this level of noise every other step is without guidance.")
    ngms_all_steps: bool = Field(default=False, description="ngms leaves guidance out of all those steps.")

    eta: float | None = _limited("eta", None, "Share of the noise that a step renews; the sampler's own if not given.")
    eta_ddim: float | None = _limited("eta_ddim", None, "The same for DDIM.")
    s_churn: float = _limited("s_churn", 0.0, "Noise added before steps.")
    s_tmin: float = _limited("s_tmin", 0.0, "The lowest level at which it is.")
    s_tmax: float = _limited("s_tmax", 0.0, "The highest; 0 is no limit.")
    s_noise: float = _limited("s_noise", 1.0, "Factor on all noise that is added on the way.")
    sigma_min: float = _limited("sigma_min", 0.0, "The schedule's smallest level above 0; 0 is the model's.")
    sigma_max: float = _limited("sigma_max", 0.0, "The schedule's largest level; 0 is the model's.")
    rho: float = _limited("rho", 0.0, "The schedule's exponent; 0 is its own.")
    discard_penultimate_sigma: bool | None = Field(
        default=None, description="Whether to leave out the next-to-last level, instead of as the sampler does."
    )
    downcast_alphas: bool = Field(default=False, description="Levels in half precision, as A1111 before 1.7 had them.")
    noise_schedule: Literal["Default", "Zero Terminal SNR"] = Field(
        default="Default", description="Zero Terminal SNR: levels rescaled to end without signal."
    )
    sgm_noise_multiplier: bool = Field(default=False, description="Begin with noise scaled as ComfyUI does.")

    beta_alpha: float | None = _limited("beta_alpha", None, "Shape of the beta schedules; 0.6 if not given.")
    beta_beta: float | None = _limited("beta_beta", None, "The other end's; 0.6 if not given.")
    unipc_variant: Literal["bh1", "bh2", "vary_coeff"] | None = Field(default=None, description="UniPC's form.")
    unipc_order: int | None = _limited("unipc_order", None, "UniPC's order, at most 12 is used.")
    unipc_lower_order_final: bool | None = Field(default=None, description="Whether its order falls towards the end.")

    denoising_strength: float | None = _limited("denoising_strength", None, "How much of a picture is painted anew.")
    hires_upscale: float | None = _limited("hires_upscale", None, "Second pass: how much larger.")
    hires_resize: Sides | None = Field(default=None, description="Second pass: size in pixels.")
    hires_steps: int | None = _limited("hires_steps", None, "Second pass: steps; 0 is as many as in the first.")
    hires_upscaler: str | None = Field(default=None, description="Second pass: what enlarges.")
    hires_sampler: str | None = Field(default=None, description="Second pass: sampler.")
    hires_scheduler: str | None = Field(default=None, description="Second pass: schedule.")
    hires_prompt: str | None = Field(default=None, description="Second pass: prompt.")
    hires_negative_prompt: str | None = Field(default=None, description="Second pass: negative prompt.")
    hires_cfg_scale: float | None = _limited("hires_cfg_scale", None, "Second pass: CFG scale.")
    hires_denoising_strength: float | None = _limited(
        "hires_denoising_strength", None, "Second pass: denoising strength."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, data: object, handler: ModelWrapValidatorHandler[Request]) -> Request:
        try:
            request = handler(data)
        except ValidationError as error:
            raise BadInput(_one_line(error)) from None
        for name, side in (("width", request.width), ("height", request.height)):
            if side is not None:
                check_side(name, side, SIDE_STEP)
        for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
            _check_text(name, text)
        return request


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who paints: the release of Atelier, the dtype and the device of the network, the libraries that compute."""

    version: str
    dtype: str
    device: str
    libraries: str


def check_side(name: str, side: int, step: int) -> None:
    """Raises BadInput with the nearest good sizes if `side` pixels are no multiple of `step`."""
    if side % step == 0:
        return
    low, high = LIMITS[name]
    below = side - side % step
    near = [str(s) for s in (below, below + step) if low <= s <= high]
    raise BadInput(f"{name} {side} is not a multiple of {step}: use {' or '.join(near)}")


def _check_text(name: str, text: str) -> None:
    """Refuses what no file of text can hold: half characters (bytes of a command line that are no UTF-8) and NUL."""
    for position, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise BadInput(f"{name} holds {character!r} at position {position}, which is no character: take it out")


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "request"
    match first["type"]:
        case "extra_forbidden":
            return f"unknown field {name!r}: {nearest(name, tuple(Request.model_fields))}"
        case "missing":
            return f"{name} is missing"
        case _:
            return f"{name} {_shown(first['input'])}: {_way_out(name, first['msg'])}"


def _way_out(name: str, message: str) -> str:
    if name in LIMITS:
        low, high = LIMITS[name]
        return f"must be {_kind(name)} from {low} to {high}"
    if name in {"seed_resize", "hires_resize"}:
        return f"write a size such as 512x768, each side from 0 to {MAX_SIDE}"
    return message[:1].lower() + message[1:]


def _kind(name: str) -> str:
    return "a number" if "float" in str(Request.model_fields[name].annotation) else "a whole number"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
