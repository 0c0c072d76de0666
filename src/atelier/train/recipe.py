"""What all recipes share: every number of a training in one TOML file, checked strictly. Read without torch."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from atelier.errors import BadFile, BadInput, nearest
from atelier.train.data.shares import SHARES
from atelier.weights.formats.text import read_text

Positive = Annotated[int, Field(gt=0, le=10**9)]
NotNegative = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(gt=0, le=8192)]
"""Pixels of a training image."""
Threads = Annotated[int, Field(ge=0, le=1024)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e9)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
Decay = Annotated[float, Field(ge=0, lt=1)]

EMOJI = "emoji"
MANUAL = "docs/training.md"
FREE = (
    "steps",
    "accumulate",
    "checkpointing",
    "checkpoint_every",
    "keep",
    "validate_every",
    "log_every",
    "workers",
    "threads",
)
"""Keys of [run] that may change while a run goes on, as optim.cooldown may."""


class Table(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A table of a recipe: unknown keys and numbers that are none are errors."""


class Data(Table, frozen=True):
    """source: "emoji" or a folder of images with captions; size: side of the training images in pixels.

    validation: how many images are held out, a tenth of a folder at most; shares: how many of the emoji scenes show
    one thing large, one thing small, and a pair, in proportion; the images of a folder all count alike.
    """

    source: str = EMOJI
    size: Side = 128
    seed: Seed = 0
    validation: Positive = 256
    shares: tuple[Weight, Weight, Weight] = SHARES

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not sum(self.shares):
            raise ValueError(f"data.shares = {list(self.shares)}: no scene is left; give one of the three a share")
        return self


class Run(Table, frozen=True):
    """How long, how often, how many. Steps count optimizer steps; threads 0 takes torch's own choice.

    batch: images of a step, of all processes together; accumulate: in how many parts, one after another, a step
    computes them; checkpointing: whether blocks keep nothing for the backward pass but their inputs.
    """

    steps: Positive
    batch: Annotated[int, Field(gt=0, le=2**16)]
    accumulate: Positive = 1
    checkpointing: bool = False
    seed: Seed = 0
    checkpoint_every: Positive = 500
    keep: Positive = 3
    validate_every: Positive = 500
    log_every: Positive = 20
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    threads: Threads = 0
    dtype: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _divides(self) -> Self:
        divides("run.batch", self.batch, "run.accumulate", self.accumulate)
        return self


OptimizerKind = Literal["adamw", "adamw8bit", "adafactor", "prodigy", "lion", "muon", "sgd"]
FINDS_ITS_RATE: OptimizerKind = "prodigy"
LEAST_SHARE = 0.1
"""Of the rate that such an optimizer finds: with less it hardly moves, and finds none."""
Schedule = Literal["cooldown", "constant", "linear", "cosine", "cosine_restarts", "polynomial", "inverse_sqrt"]


class Optim(Table, frozen=True):
    """kind: the optimizer; muon moves matrices and kernels, AdamW what is left, both at `rate`. momentum: of sgd;
    scale_parameter: of adafactor, whether its steps are relative to the size of what they move.

    warmup: steps, or below 1 a share of the run; cooldown: a share of the run, of the schedule of that name; cycles,
    power: of cosine_restarts and polynomial; floor: the share of the rate to which schedules fall. clip bounds the norm
    of all gradients together.
    """

    rate: Rate
    kind: OptimizerKind = "adamw"
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    momentum: Decay = 0.9
    scale_parameter: bool = True
    weight_decay: Weight = 0.0
    eps: Rate = 1e-8
    schedule: Schedule = "cooldown"
    warmup: Weight = 100
    cooldown: Share = 0.2
    cycles: Positive = 1
    power: Rate = 1.0
    floor: Share = 0.0
    clip: Rate = 1.0
    ema: Share = 0.999

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        if self.warmup >= 1 and self.warmup % 1:
            raise ValueError(f"optim.warmup = {self.warmup}: give whole steps, or below 1 a share of the run")
        return self

    @model_validator(mode="after")
    def _finds_its_rate(self) -> Self:
        if self.kind == FINDS_ITS_RATE and self.rate < LEAST_SHARE:
            raise ValueError(
                f"optim.rate = {self.rate}: {self.kind} finds its rate itself and takes so many times that: set it to 1"
            )
        return self


class Noise(Table, frozen=True):
    """What noise images get in training beside independent normal numbers; all zero: nothing.

    offset: strength of what a whole channel has in common; pyramid: how many coarser layers of noise are added, each
    `discount` as strong as the one before; perturbation: strength of noise that the network sees and is not asked for.
    """

    offset: Weight = 0.0
    pyramid: Annotated[int, Field(ge=0, le=10)] = 0
    discount: Share = 0.3
    perturbation: Weight = 0.0


class Times(Table, frozen=True):
    """Which times of noise a step trains, as shares of the whole path.

    draw: spread evenly over the batch ("strata"), or each for itself ("uniform"); density: of all times alike, or
    "logit_normal" with this mean and deviation; least, most: the part of the path that is trained.
    """

    draw: Literal["strata", "uniform"] = "strata"
    density: Literal["uniform", "logit_normal"] = "uniform"
    mean: Annotated[float, Field(ge=-20, le=20)] = 0.0
    deviation: Rate = 1.0
    least: Share = 0.0
    most: Share = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least >= self.most:
            raise ValueError(f"times.least = {self.least} is not below times.most = {self.most}")
        return self


class Recipe(Table, frozen=True):
    """What the loop reads of every recipe. A kind of training adds its own keys.

    kind: the name under which the kind is registered.
    """

    kind: str
    run: Run
    optim: Optim


R = TypeVar("R", bound=Recipe)


def parsed(path: Path) -> dict[str, Any]:
    """The table in a TOML file, or in the recipe.json of a run. Raises BadFile."""
    try:
        text = read_text(path)
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except BadFile as error:
        raise BadFile(path, f"is no recipe: it {error.problem}") from None
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"is no recipe: {error}") from None
    if not isinstance(table, dict):
        raise BadFile(path, "is no recipe: it holds no table")
    return cast("dict[str, Any]", table)


def checked(table: dict[str, Any], model: type[R], changes: Mapping[str, object], source: str) -> R:
    """The recipe of a table with `changes` made in it, dotted key -> value, such as {"run.steps": 100}.

    source: what errors name as the culprit. Raises BadInput or BadFile naming the key.
    """
    for dotted, value in changes.items():
        _set(table, dotted, value)
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise BadFile(source, f"{_complaint(error.errors()[0], model)}; see {MANUAL}") from None


def digest(recipe: Recipe) -> str:
    """Names the recipe up to what may change on resume: the length, the pace of saving, the workers."""
    return hashlib.sha256(json.dumps(_fixed(recipe.model_dump(mode="json")), sort_keys=True).encode()).hexdigest()[:16]


def differences(before: Mapping[str, Any], now: Recipe) -> list[str]:
    """What keeps `now` from going on with a run of the recipe `before` (a table): "optim.rate was 1, is 2", …"""
    if before.get("kind") != now.kind:
        return [f"{before.get('kind')}, not {now.kind}"]
    old, new = (dict(flat(_fixed(table))) for table in (before, now.model_dump(mode="json")))
    return [
        f"{key} was {json.dumps(old.get(key))}, is {json.dumps(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _fixed(table: Mapping[str, Any]) -> dict[str, Any]:
    return {**table, "run": _without(table.get("run"), FREE), "optim": _without(table.get("optim"), ("cooldown",))}


def _without(part: object, keys: tuple[str, ...]) -> object:
    """A table but for some of its keys; what is no table stays as it is."""
    if not isinstance(part, dict):
        return part
    return {key: value for key, value in cast("dict[str, Any]", part).items() if key not in keys}


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a recipe's table, dotted, with their values."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            yield prefix + key, value


def divides(name: str, value: int, by: str, number: int) -> None:
    """For validators: raises ValueError where `value`, called `name`, is not divisible by `number`, called `by`."""
    if value % number:
        raise ValueError(f"{name}: {value} is not divisible by {by}, {number}")


def _set(table: dict[str, Any], dotted: str, value: object) -> None:
    *path, last = dotted.split(".")
    for name in path:
        inner: object = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise BadInput(f"{dotted}: {name} is no table of the recipe; see {MANUAL}")
        table = cast("dict[str, Any]", inner)
    table[last] = value


def _complaint(error: ErrorDetails, kind: type[BaseModel]) -> str:
    """One line about the first thing that is wrong."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key} is no key of a recipe: {nearest(key, _keys(kind))}"
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "model_type":
        return f"{key} is a table of keys, not {json.dumps(error['input'], default=str)}"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    return f"{key} = {json.dumps(error['input'], default=str)}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            keys += _keys(part, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
