"""The scales of layers that PEFT's settings say and the tensors do not: in the metadata of a file, or beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from atelier.adapters.delta import LIMIT, ON_INPUT, TERMS
from atelier.adapters.spelling import TOWERS, WRAPPED
from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.weights.formats.safetensors import shown

PEFT = "lora_adapter_metadata"
"""The key in the metadata of diffusers' files: settings as JSON, each behind the name of its network."""
SETTINGS, STEM = "adapter_config.json", "adapter_model"
"""What PEFT calls the settings in a folder, and the weights that they are of, without the ending."""
NETWORKS = ("unet.", "transformer.", *TOWERS)
ADALORA = "ADALORA"
ALPHAS: Mapping[str, str] = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha", ADALORA: "lora_alpha"}
"""The kinds whose difference is divided by its rank, and what the settings call the number that it is multiplied by."""
ALPHA, RANK, FIRST_RANK = 8.0, 8, 12
"""Where the settings say neither, in all of these kinds; the rank that AdaLoRA begins with."""
OFT_TERMS, OFT_LIMIT = 5, 6e-5
"""Of the series of OFT's rotations, and of their norm, where the settings say neither."""
MOST_TERMS = 64
"""More add nothing in float32, and take time."""
TINY = 1e-5
"""PEFT adds it to the ranks of AdaLoRA."""
PATH = re.compile(r"(\^?)((?:\\?[.]|[\w-])+)\$?")
"""A pattern of layers: the end of their paths, or all of it; dots may be escaped."""
LOWEST = -1e6


@dataclass(frozen=True, slots=True)
class Scaling:
    """Of the layers of one network. alphas, ranks: by the ends of paths, the first that fits counts, with "^" before
    whole paths; alpha, rank: of all others. root: whether it is divided by the root of the rank. adaptive: of AdaLoRA,
    which divides by the rank that the training began with, whatever has been taken away since."""

    alpha: float
    rank: int
    alphas: Mapping[str, float]
    ranks: Mapping[str, int]
    root: bool
    adaptive: bool = False

    def of(self, path: str, rank: int | None) -> float:
        """rank: of the tensors of the layer, where they tell it."""
        if self.adaptive:
            return self.alpha / (self.rank + TINY)
        own = rank or next((n for end, n in self.ranks.items() if _is_meant(end, path)), self.rank)
        alpha = next((n for end, n in self.alphas.items() if _is_meant(end, path)), self.alpha)
        return alpha / (math.sqrt(own) if self.root else own)


@dataclass(frozen=True, slots=True)
class Stated:
    """beside: of all layers, where settings lie beside the file; networks: those in its metadata, by the beginning of
    names. rotation: numbers of OFT, by slot; inputs: the ends of the paths of layers whose inputs (IA)^3 scales; whole:
    whether the file has weights and biases that are in place of the network's own."""

    beside: Scaling | None = None
    networks: Mapping[str, Scaling] = field(default_factory=dict[str, Scaling])
    rotation: Mapping[str, float] = field(default_factory=dict[str, float])
    inputs: tuple[str, ...] = ()
    whole: bool = False

    def numbers(self, layer: str) -> Mapping[str, float]:
        """What else the settings say of a layer, by slot."""
        return {**self.rotation, ON_INPUT: 1.0} if self.inputs and layer.endswith(self.inputs) else self.rotation

    def scale(self, layer: str, rank: int | None) -> float | None:
        """What the difference of a layer is multiplied by; layer: its name in the file. None where nobody says it."""
        network = next((own for own in NETWORKS if layer.startswith(own)), "")
        scaling = self.beside or self.networks.get(network)
        path = layer.removeprefix(network).removeprefix(WRAPPED)
        return None if scaling is None else scaling.of(path, rank)


def settings_of(path: Path) -> Path | None:
    """The settings that lie beside a file of PEFT and are a part of it."""
    beside = path.parent / SETTINGS
    return beside if path.stem == STEM and beside.is_file() else None


def stated(path: Path, metadata: Mapping[str, str]) -> Stated:
    """What is said of a file. Raises BadFile for settings that cannot be read."""
    beside = settings_of(path)
    if beside is not None:
        return _beside(Config.read(beside))
    if PEFT not in metadata:
        return Stated()
    said = Config.parse(metadata[PEFT], path).values
    networks = {
        network: {k.removeprefix(network): said[k] for k in said if k.startswith(network)} for network in NETWORKS
    }
    alone = {key: value for key, value in said.items() if not key.startswith(NETWORKS)}
    found = {network: _scaling(Config(path, own)) for network, own in (*networks.items(), ("", alone)) if own}
    return Stated(networks={network: scaling for network, scaling in found.items() if scaling is not None})


def check_target(path: Path) -> None:
    """Raises BadFile for an adapter that would be written beside settings of another, which would count for it too."""
    if path.stem == STEM and (path.parent / SETTINGS).exists():
        raise BadFile(path, f"lies beside {SETTINGS}, which would count for what is written too: choose another name")


def network_of(path: Path) -> str:
    """The network that a file of PEFT is for, as names of layers begin, by its folder; "" where that says nothing."""
    network = f"{path.parent.name}."
    return network if path.stem == STEM and network in NETWORKS else ""


def _beside(config: Config) -> Stated:
    kind = config.values.get("peft_type")
    biases = config.values.get("bias") not in (None, "none")
    return Stated(
        _scaling(config),
        rotation=_rotation(config) if kind == "OFT" else {},
        inputs=_ends(config, "feedforward_modules") if kind == "IA3" else (),
        whole=biases or bool(config.values.get("modules_to_save")),
    )


def _rotation(config: Config) -> Mapping[str, float]:
    is_series = config.flag("use_cayley_neumann", default=True)
    terms = config.whole("num_cayley_neumann_terms", OFT_TERMS) if is_series else 0
    limit = config.number("eps", OFT_LIMIT) if config.flag("coft", default=False) else 0.0
    return {TERMS: float(min(terms, MOST_TERMS)), LIMIT: limit}


def _ends(config: Config, key: str) -> tuple[str, ...]:
    found = config.values.get(key)
    if found is None:
        return ()
    items = cast("list[object]", found) if isinstance(found, list) else [None]
    if not all(isinstance(item, str) for item in items):
        raise config.wrong(key, "a list of the ends of layers' paths")
    return tuple(cast("list[str]", items))


def _scaling(config: Config) -> Scaling | None:
    kind = config.choice("peft_type", ("LORA", *ALPHAS)) if _is_scaled(config) else ""
    if kind not in ALPHAS:
        return None
    if kind == ADALORA:
        return _of_adalora(config)
    key = ALPHAS[kind]
    alphas, ranks = _patterns(config, "alpha_pattern"), _patterns(config, "rank_pattern")
    return Scaling(
        config.number(key, ALPHA, low=LOWEST),
        config.whole("r", RANK),
        {_end(alphas, own): alphas.number(own, ALPHA, low=LOWEST) for own in alphas.values},
        {_end(ranks, own): ranks.whole(own, RANK) for own in ranks.values},
        config.flag("use_rslora", default=False),
    )


def _of_adalora(config: Config) -> Scaling:
    """An alpha that is not above zero stands for the rank. Which ranks are left, the tensors tell."""
    rank, alpha = config.whole("init_r", FIRST_RANK), config.number(ALPHAS[ADALORA], ALPHA, low=LOWEST)
    return Scaling(alpha if alpha > 0 else float(rank), rank, {}, {}, root=False, adaptive=True)


def _is_scaled(config: Config) -> bool:
    return config.values.get("peft_type", "LORA") in ALPHAS


def _patterns(config: Config, key: str) -> Config:
    found = config.values.get(key)
    if found is None:
        return Config(config.path, {})
    if not isinstance(found, dict):
        raise config.wrong(key, "an object of numbers")
    return Config(config.path, cast("dict[str, object]", found))


def _end(patterns: Config, own: str) -> str:
    """Raises BadFile for other patterns than paths: an expression can be made to take years."""
    found = PATH.fullmatch(own)
    if found is None:
        told = f"says of which layers by {shown(own)}: paths of layers, or their ends, are what can be used here"
        raise BadFile(patterns.path, told)
    return found[1] + found[2].replace("\\", "")


def _is_meant(end: str, path: str) -> bool:
    return path == end[1:] if end.startswith("^") else f".{path}".endswith(f".{end}")
