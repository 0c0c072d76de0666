"""Recipes: every number of a training run, in one TOML file, checked strictly."""

from __future__ import annotations

import hashlib
import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atelier.errors import BadFile, UnknownName

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
EMBEDDED = ("vae", "clip", "denoiser")


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Data(Part):
    """source: "emoji" or a folder of pictures with captions; size: side of the training pictures in pixels."""

    source: str = "emoji"
    size: Positive = 64
    seed: int = 0
    validation: Positive = 256


class Run(Part):
    """How long, how often, how many. Steps count optimizer steps; cooldown is a share of them."""

    steps: Positive
    batch: Positive
    seed: int = 0
    checkpoint_every: Positive = 500
    keep: Positive = 3
    validate_every: Positive = 500
    log_every: Positive = 20
    workers: Annotated[int, Field(ge=0)] = 1
    threads: Annotated[int, Field(ge=0)] = 0
    dtype: Literal["auto", "fp32", "bf16"] = "auto"


class Optim(Part):
    """AdamW; clip bounds the norm of all gradients together."""

    rate: Annotated[float, Field(gt=0)]
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    eps: float = 1e-8
    warmup: Annotated[int, Field(ge=0)] = 100
    cooldown: Share = 0.2
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Share = 0.999


class VaeModel(Part):
    latent: Positive = 4
    widths: tuple[Positive, ...]
    blocks: Positive = 1
    groups: Positive = 8
    mid_attention: bool = True


class VaeLoss(Part):
    """Weights of the terms; the adversarial one starts at step gan_start and is off at weight 0."""

    l1: float = 1.0
    gradient: float = 1.0
    kl: float = 1e-6
    gan: float = 0.0
    gan_start: int = 0
    gan_rate: float = 2e-4
    gan_width: Positive = 32


class VaeRecipe(Part):
    """begin: run folder of a finished autoencoder to go on from; learn: "decoder" leaves its latents as they are."""

    kind: Literal["vae"]
    begin: str = ""
    learn: Literal["all", "decoder"] = "all"
    data: Data = Data()
    run: Run
    optim: Optim
    model: VaeModel
    loss: VaeLoss = VaeLoss()


class ClipModel(Part):
    """Both towers. vocab bounds the size of the BPE vocabulary trained on the captions."""

    vocab: Positive = 2048
    positions: Positive = 77
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
    kind: Literal["clip"]
    data: Data = Data()
    run: Run
    optim: Optim
    model: ClipModel


class UNetModel(Part):
    widths: tuple[Positive, ...]
    blocks: Positive = 2
    depth: tuple[int, ...]
    mid_depth: Positive = 1
    heads: tuple[Positive, ...]
    groups: Positive = 16


class DenoiserLoss(Part):
    """prediction: what the network learns to say; snr_gamma: min-SNR bound; drop: share of captions emptied."""

    prediction: Literal["velocity", "epsilon"] = "velocity"
    snr_gamma: float = 5.0
    drop: Share = 0.1


class DenoiserRecipe(Part):
    """vae, clip: run folders (or part folders) of the first two trainings; pool: scenes whose latents are kept."""

    kind: Literal["denoiser"]
    vae: str
    clip: str
    pool: Positive = 65_536
    shard: Positive = 512
    data: Data = Data()
    run: Run
    optim: Optim
    model: UNetModel
    loss: DenoiserLoss = DenoiserLoss()


Recipe = VaeRecipe | ClipRecipe | DenoiserRecipe
R = TypeVar("R", VaeRecipe, ClipRecipe, DenoiserRecipe)


def read(source: str, kind: type[R], changes: dict[str, Any] | None = None) -> R:
    """The recipe in a TOML file, or an embedded one by name ("vae", "clip", "denoiser").

    changes: dotted key -> value, such as {"run.steps": 100}. Raises BadFile naming the key, UnknownName.
    """
    table = tomllib.loads(_text(source)) if source in EMBEDDED else _parsed(Path(source))
    for dotted, value in (changes or {}).items():
        _set(table, dotted, value)
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "recipe"
        raise BadFile(source, f"{where}: {first['msg']}; see docs/training.md for the keys of a recipe") from None


def digest(recipe: Recipe) -> str:
    """Names the recipe up to what may change on resume: the length, the pace of saving, the workers."""
    table = recipe.model_dump(mode="json")
    for key in ("steps", "checkpoint_every", "keep", "validate_every", "log_every", "workers", "threads"):
        table["run"].pop(key)
    table["optim"].pop("cooldown")
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:16]


def _text(name: str) -> str:
    return (files("atelier.train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UnknownName("recipe", str(path), EMBEDDED)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadFile(path, f"is no TOML: {error}") from None


def _set(table: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for name in path:
        table = table.setdefault(name, {})
    table[last] = value
