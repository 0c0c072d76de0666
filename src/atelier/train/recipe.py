"""Recipes: every number of a training run, in one TOML file, checked strictly."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from atelier.errors import BadFile, BadInput, nearest
from atelier.train.data.scenes import SHARES

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]

EMBEDDED = ("vae", "clip", "denoiser")
EMOJI = "emoji"
MANUAL = "docs/training.md"
FREE = ("steps", "checkpoint_every", "keep", "validate_every", "log_every", "workers", "threads")
"""Keys of [run] that may change while a run goes on, as optim.cooldown may."""


class Part(BaseModel):
    """A table of a recipe: unknown keys and numbers that are none are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Data(Part):
    """source: "emoji" or a folder of pictures with captions; size: side of the training pictures in pixels.

    validation: how many pictures are held out, a tenth of a folder at most; shares: how many of the emoji scenes show
    one thing large, one thing small, and a pair, in proportion; the pictures of a folder all count alike.
    """

    source: str = EMOJI
    size: Positive = 64
    seed: NotNegative = 0
    validation: Positive = 256
    shares: tuple[Weight, Weight, Weight] = SHARES

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not sum(self.shares):
            raise ValueError(f"data.shares = {list(self.shares)}: no scene is left; give one of the three a share")
        return self


class Run(Part):
    """How long, how often, how many. Steps count optimizer steps; threads 0 takes torch's own choice."""

    steps: Positive
    batch: Positive
    seed: NotNegative = 0
    checkpoint_every: Positive = 500
    keep: Positive = 3
    validate_every: Positive = 500
    log_every: Positive = 20
    workers: NotNegative = 1
    threads: NotNegative = 0
    dtype: Literal["auto", "fp32", "bf16"] = "auto"


class Optim(Part):
    """AdamW, or Muon for matrices and kernels (rate is for both); clip bounds the norm of all gradients
    together; cooldown is a share of the steps."""

    rate: Rate
    matrices: Literal["adamw", "muon"] = "adamw"
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: Weight = 0.0
    eps: Rate = 1e-8
    warmup: NotNegative = 100
    cooldown: Share = 0.2
    clip: Rate = 1.0
    ema: Share = 0.999


class DenoiserOptim(Optim):
    """text_gain: how strongly Muon moves the layers that read the text, against all others; 0: as any layer.

    Above 0, their steps are equal in all directions of the text states rather than largest where these are."""

    text_gain: Weight = 0.0


class VaeModel(Part):
    """widths: channels per level, each level half the size of the one before; groups: of the group norms."""

    latent: Positive = 4
    widths: Annotated[tuple[Positive, ...], Field(min_length=1)]
    blocks: Positive = 1
    groups: Positive = 8
    mid_attention: bool = True


class VaeLoss(Part):
    """Weights of the terms; the adversarial one starts at step gan_start and is off at weight 0.

    noise: the decoder reads latents with noise of up to this share of their standard deviation.
    """

    l1: Weight = 1.0
    gradient: Weight = 1.0
    kl: Weight = 1e-6
    noise: Weight = 0.0
    gan: Weight = 0.0
    gan_start: NotNegative = 0
    gan_rate: Rate = 2e-4
    gan_width: Annotated[int, Field(gt=0, multiple_of=4)] = 32


class VaeRecipe(Part):
    """begin: a finished autoencoder to go on from, a run folder or a model; learn: "decoder" leaves its latents as they
    are."""

    kind: Literal["vae"]
    begin: str = ""
    learn: Literal["all", "decoder"] = "all"
    data: Data = Data()
    run: Run
    optim: Optim
    model: VaeModel
    loss: VaeLoss = VaeLoss()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _divides("data.size", self.data.size, "the autoencoder's factor", 2 ** (len(self.model.widths) - 1))
        for width in self.model.widths:
            _divides("model.widths", width, "model.groups", self.model.groups)
        if self.learn == "decoder" and not self.begin:
            raise ValueError('learn = "decoder" needs begin, the run or model whose latents are kept')
        return self


class ClipModel(Part):
    """Both towers. vocab bounds the size of the BPE vocabulary trained on the captions (514 has no merges)."""

    vocab: Annotated[int, Field(ge=514, le=65_536)] = 2048
    positions: Annotated[int, Field(ge=3, le=10_000)] = 77
    width: Positive = 192
    layers: Positive = 4
    heads: Positive = 4
    patch: Positive = 8
    vision_width: Positive = 192
    vision_layers: Positive = 4
    vision_heads: Positive = 4
    embedding: Positive = 128
    captions: Positive = 20_000


class ClipRecipe(Part):
    """begin: a finished CLIP, a run folder or a model, whose text tower and vocabulary are kept as they are; only a new
    vision tower is learned (Zhai 2022, arXiv:2111.07991, with the towers' parts exchanged)."""

    kind: Literal["clip"]
    begin: str = ""
    data: Data = Data()
    run: Run
    optim: Optim
    model: ClipModel

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _divides("data.size", self.data.size, "model.patch", self.model.patch)
        _divides("model.width", self.model.width, "model.heads", self.model.heads)
        _divides("model.vision_width", self.model.vision_width, "model.vision_heads", self.model.vision_heads)
        return self


class UNetModel(Part):
    """widths, depth (transformer blocks) and heads: one number per level; groups: of the group norms."""

    widths: Annotated[tuple[Positive, ...], Field(min_length=1)]
    blocks: Positive = 2
    depth: tuple[NotNegative, ...]
    mid_depth: Positive = 1
    heads: tuple[Positive, ...]
    groups: Positive = 16


class DenoiserLoss(Part):
    """prediction: what the network learns to say; drop: share of captions emptied; time_shift: see objective.shifted.

    The error of the clean latent weighs as much as its signal-to-noise ratio, snr_floor at least and snr_gamma at most;
    detail: how much more its fine half weighs, see objective.loss. zero_snr: the last level of noise has no signal.
    """

    prediction: Literal["velocity", "epsilon"] = "velocity"
    zero_snr: bool = False
    snr_floor: Weight = 0.0
    snr_gamma: Rate = 5.0
    detail: Weight = 0.0
    time_shift: Rate = 1.0
    drop: Share = 0.1


class DenoiserRecipe(Part):
    """vae, clip: the first two trainings, each a run folder or a model; pool: scenes whose latents are kept; shard: how
    many of them lie in a file.

    begin: a run folder (its averaged weights) or a model, with a denoiser of the same shape to go on from; "embedded"
    is the model of this package, here as for vae and clip. cfg_scale: of the samples, and of images by the finished
    model where nobody says another.
    """

    kind: Literal["denoiser"]
    begin: str = ""
    vae: str
    clip: str
    pool: Positive = 65_536
    shard: Positive = 512
    cfg_scale: Annotated[float, Field(ge=0, le=100)] = 3.0
    data: Data = Data()
    run: Run
    optim: DenoiserOptim
    model: UNetModel
    loss: DenoiserLoss = DenoiserLoss()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        m = self.model
        if self.optim.text_gain and self.optim.matrices != "muon":
            raise ValueError('optim.text_gain needs optim.matrices = "muon"')
        if self.loss.zero_snr and self.loss.prediction == "epsilon":
            raise ValueError('loss.zero_snr needs loss.prediction = "velocity": pure noise says nothing about epsilon')
        if self.loss.snr_floor > self.loss.snr_gamma:
            raise ValueError(f"loss.snr_floor: {self.loss.snr_floor} is more than loss.snr_gamma")
        if not len(m.widths) == len(m.depth) == len(m.heads):
            raise ValueError("model.widths, model.depth and model.heads need one number for every level each")
        if m.depth[-1] not in {0, m.mid_depth}:
            raise ValueError(f"model.depth must end in 0 or model.mid_depth ({m.mid_depth}), as diffusers reads it")
        if m.widths[0] % 2:
            raise ValueError(f"model.widths must begin with an even number, not {m.widths[0]}")
        for level, width in enumerate(m.widths):
            _divides("model.widths", width, "model.groups", m.groups)
            if m.depth[level] or level == len(m.widths) - 1:
                _divides("model.widths", width, "model.heads", m.heads[level])
        return self


Recipe = VaeRecipe | ClipRecipe | DenoiserRecipe
R = TypeVar("R", VaeRecipe, ClipRecipe, DenoiserRecipe)


def read(source: str, kind: type[R], changes: Mapping[str, object] | None = None) -> R:
    """The recipe in a TOML file (or the recipe.json of a run), or an embedded one by name: "vae", "clip", "denoiser".

    changes: dotted key -> value, such as {"run.steps": 100}. Raises BadInput or BadFile naming the key.
    """
    table = tomllib.loads(_text(source)) if source in EMBEDDED else _parsed(Path(source))
    for dotted, value in (changes or {}).items():
        _set(table, dotted, value)
    (wanted,) = get_args(kind.model_fields["kind"].annotation)
    if table.get("kind") != wanted:
        raise BadFile(source, f"is a recipe of kind {table.get('kind')!r}, not {wanted!r}")
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise BadFile(source, f"{_complaint(error.errors()[0], kind)}; see {MANUAL}") from None


def digest(recipe: Recipe) -> str:
    """Names the recipe up to what may change on resume: the length, the pace of saving, the workers."""
    return hashlib.sha256(json.dumps(_fixed(recipe.model_dump(mode="json")), sort_keys=True).encode()).hexdigest()[:16]


def differences(before: Mapping[str, Any], now: Recipe) -> list[str]:
    """What keeps `now` from going on with a run of the recipe `before` (a table): "optim.rate was 1, is 2", …"""
    if before.get("kind") != now.kind:
        return [f"{before.get('kind')}, not {now.kind}"]
    old, new = (dict(_flat(_fixed(table))) for table in (before, now.model_dump(mode="json")))
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


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(name: str) -> str:
    return (files("atelier.train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadFile(path, f"no such recipe: give a TOML file, or one of {', '.join(EMBEDDED)}")
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, OSError, RecursionError) as error:
        raise BadFile(path, f"is no recipe: {error}") from None
    if not isinstance(table, dict):
        raise BadFile(path, "is no recipe: it holds no table")
    return cast("dict[str, Any]", table)


def _set(table: dict[str, Any], dotted: str, value: object) -> None:
    *path, last = dotted.split(".")
    for name in path:
        inner: object = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise BadInput(f"{dotted}: {name} is no table of the recipe; see {MANUAL}")
        table = cast("dict[str, Any]", inner)
    table[last] = value


def _divides(name: str, value: int, by: str, number: int) -> None:
    if value % number:
        raise ValueError(f"{name}: {value} is not divisible by {by}, {number}")


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
