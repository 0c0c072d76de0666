"""What OpenAI's clients ask, and the fields of a request that it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from atelier.api.errors import Problem, Refused, refuse
from atelier.api.service import Catalogue, ImageKind
from atelier.api.v1.generate import NOT_ASKED, PROMPT_LENGTH
from atelier.request.events import Json
from atelier.request.fields import PIXELS, SIDE_STEP
from atelier.request.table import FIELDS

THEIRS = ("dall-e", "gpt-image", "chatgpt-image")
"""How OpenAI's own models begin, which clients name from habit: they get the model that is used where none is named."""
BY_URL = "dall-e"
"""Models whose clients read `url` unless they asked for something else."""
STEPS: Mapping[str, int] = {"low": 12, "medium": 25, "high": 40, "hd": 40, "xhigh": 50, "max": 60}
"""Of the sampler, by quality; the model's own number for every other."""
MANY_STEPS = 40
"""From here on an image larger than the model's is made in two passes."""
SMALL_FAMILIES = frozenset({"sd1", "sd2"})
"""Models that show things twice where a side is far beyond their 512 or 768 pixels."""
LARGE = 1024
"""Pixels of both sides: here such a model begins with half of it."""
OTHER_NAMES: Mapping[str, str] = {
    "step": "steps",
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "sampler_name": "sampler",
    "strength": "denoising_strength",
}
"""Fields that others add to OpenAI's: what LocalAI, diffusers and A1111 call ours."""
_OURS = (
    frozenset(FIELDS) - NOT_ASKED - {"prompt", "model", "width", "height", "batch_size", "batch_count", "image", "mask"}
)


Size = Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$", description="auto, or WIDTHxHEIGHT.")]
Quality = Literal["auto", "low", "medium", "high", "standard", "hd", "xhigh", "max"]


class Common(BaseModel):
    """What all three calls share. Fields that are neither OpenAI's nor ours mean nothing and do no harm."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    model: Annotated[str, Field(max_length=4096)] | None = None
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: Size | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: Annotated[str, Field(max_length=4096)] | None = None

    @property
    def by_url(self) -> bool:
        """Whether the answer names addresses in place of bytes."""
        if self.response_format is not None:
            return self.response_format == "url"
        return (self.model or "").startswith(BY_URL)


class Worded(Common):
    """Those with a prompt."""

    prompt: Annotated[str, Field(max_length=PROMPT_LENGTH)]
    quality: Quality | None = None
    output_format: ImageKind | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    moderation: Literal["low", "auto"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None


class Generation(Worded):
    """POST /v1/images/generations. file: LocalAI's image to start from, in base64."""

    style: Literal["vivid", "natural"] | None = None
    file: str | None = None


class Edit(Worded):
    """POST /v1/images/edits, without its files."""

    input_fidelity: Literal["low", "high"] | None = None


class Variation(Common):
    """POST /v1/images/variations, without its file."""


def fields_of(asked: Common, found: Catalogue, shape: tuple[int, int] | None = None) -> dict[str, Json]:
    """The fields of a request; without its images. shape: of the image to start from. Raises Refused."""
    model = model_of(asked.model, found)
    size = size_of(asked.size, shape)
    fields: dict[str, Json] = {"batch_count": asked.n or 1, **({"model": model} if model else {})}
    if size is not None:
        fields |= {"width": size[0], "height": size[1]}
    if isinstance(asked, Worded):
        fields |= _worded(asked)
    fields |= _extra(cast("Mapping[str, Json]", asked.model_extra or {}))
    return _in_two_passes(fields, _family(model, found))


def model_of(name: str | None, found: Catalogue) -> str | None:
    """One of the listed models, or None for the one that is used where none is named. Raises Refused (404)."""
    if not name or name.startswith(THEIRS):
        return None
    if any(entry.name == name for entry in found.models):
        return name
    message = f"the model {name[:60]!r} does not exist: GET /v1/models lists them"
    raise Refused(Problem(404, "model_not_found", message, "model"))


def size_of(size: str | None, shape: tuple[int, int] | None) -> tuple[int, int] | None:
    """The nearest size that can be generated; None leaves it to the model. Raises Refused beyond the limits."""
    if size in {None, "auto"}:
        return None if shape is None else (_near(shape[0]), _near(shape[1]))
    width, height = (int(side) for side in str(size).split("x"))
    if not all(PIXELS.low <= side <= PIXELS.high for side in (width, height)):
        raise refuse(422, f"size {size}: each side is from {PIXELS.low} to {PIXELS.high} pixels", field="size")
    return _near(width), _near(height)


def _near(side: int) -> int:
    rounded = (side + SIDE_STEP // 2) // SIDE_STEP * SIDE_STEP
    return int(min(max(rounded, PIXELS.low), PIXELS.high))


def _worded(asked: Worded) -> dict[str, Json]:
    prompt, negative = divided(asked.prompt)
    fields: dict[str, Json] = {"prompt": prompt, **({"negative_prompt": negative} if negative else {})}
    steps = STEPS.get(asked.quality or "auto")
    if steps is not None:
        fields["steps"] = steps
    if isinstance(asked, Edit) and asked.input_fidelity == "high":
        fields["denoising_strength"] = 0.5
    return fields


def divided(prompt: str) -> tuple[str, str]:
    """LocalAI's positive|negative: one bar that stands in no bracket, where it would mean something else."""
    depth, bars = 0, list[int]()
    for at, character in enumerate(prompt):
        depth += (character in "([{<") - (character in ")]}>")
        if character == "|" and depth <= 0:
            bars.append(at)
    if len(bars) != 1:
        return prompt, ""
    return prompt[: bars[0]].strip(), prompt[bars[0] + 1 :].strip()


def _extra(given: Mapping[str, Json]) -> dict[str, Json]:
    named = {OTHER_NAMES.get(name, name): value for name, value in given.items()}
    return {name: value for name, value in named.items() if name in _OURS and value is not None}


def _family(model: str | None, found: Catalogue) -> str:
    name = model or found.model
    return next((entry.family for entry in found.models if entry.name == name), "")


def _in_two_passes(fields: dict[str, Json], family: str) -> dict[str, Json]:
    """High quality and a large image of a small model: half of the size first, then the whole from there."""
    width, height, steps = (fields.get(name) for name in ("width", "height", "steps"))
    if not (isinstance(width, int) and isinstance(height, int) and isinstance(steps, int)):
        return fields
    half = (width // 2, height // 2)
    large = min(width, height) >= LARGE and not any(side % SIDE_STEP for side in half)
    if (
        steps < MANY_STEPS
        or not large
        or family not in SMALL_FAMILIES
        or any(name.startswith("hires") for name in fields)
    ):
        return fields
    return {**fields, "width": half[0], "height": half[1], "hires_resize": [width, height]}
