"""The request: everything that can be asked of a picture, and what it becomes when nothing is left open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from atelier.errors import BadInput


class Limits(NamedTuple):
    """The smallest and the largest value of a field."""

    low: int
    high: int


SIDE_STEP = 8
Rng = Literal["portable", "cpu", "nv"]
"""Where noise comes from: the same on every machine; torch's CPU generator; what an NVIDIA card draws."""
LIMITS: Mapping[str, Limits] = {
    "steps": Limits(1, 1000),
    "cfg_scale": Limits(0, 100),
    "seed": Limits(-1, 2**64 - 1),
    "width": Limits(64, 4096),
    "height": Limits(64, 4096),
    "batch_size": Limits(1, 64),
    "batch_count": Limits(1, 1000),
}


def _limited(name: str, default: int | None, description: str) -> Any:  # noqa: ANN401 - pydantic's Field is typed so
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

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, data: Any, handler: ModelWrapValidatorHandler[Request]) -> Request:  # noqa: ANN401
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
class ModelRef:
    """A model, found: its name, where it lies, and the SHA-256 of its weights (hex)."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A request with nothing left open and nothing random: the same Resolved is the same pictures.

    sampler and scheduler are registry names; seeds holds one seed per picture, in order.
    """

    prompt: str
    negative_prompt: str
    model: ModelRef
    steps: int
    sampler: str
    scheduler: str
    cfg_scale: float
    seeds: tuple[int, ...]
    rng: Rng
    width: int
    height: int
    batch_size: int
    output: str | None


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
            return f"unknown field {name!r}: the fields are {', '.join(Request.model_fields)}"
        case "missing":
            return f"{name} is missing"
        case _:
            return f"{name} {_shown(first['input'])}: {_way_out(name, first['msg'])}"


def _way_out(name: str, message: str) -> str:
    if name in LIMITS:
        low, high = LIMITS[name]
        kind = "a number" if name == "cfg_scale" else "a whole number"
        return f"must be {kind} from {low} to {high}"
    return message[:1].lower() + message[1:]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
