"""The alphas that files of PEFT say in their metadata, and nowhere else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import cast

PEFT = "lora_adapter_metadata"
"""PEFT's settings as JSON, each key behind the name of its network."""
NETWORKS = ("unet.", "transformer.", "text_encoder.", "text_encoder_2.", "text_encoder_3.")


def stated_alphas(metadata: Mapping[str, str]) -> Callable[[str, int], float | None]:
    """Of a layer by its name in the file, and its rank: what is said of it (`alpha_pattern`), else of its network
    (`lora_alpha`); with `use_rslora`, where it is divided by the root of the rank, so much more."""
    said = _settings(metadata.get(PEFT, ""))

    def alpha(layer: str, rank: int) -> float | None:
        network = next((own for own in NETWORKS if layer.startswith(own)), "")
        found = plain(network, layer)
        return found if found is None or said.get(f"{network}use_rslora") is not True else found * math.sqrt(rank)

    def plain(network: str, layer: str) -> float | None:
        patterns = said.get(f"{network}alpha_pattern")
        for path, value in (cast("dict[str, object]", patterns) if isinstance(patterns, dict) else {}).items():
            if f".{layer}".endswith(f".{path}"):
                return _number(value)
        return _number(said.get(f"{network}lora_alpha"))

    return alpha


def _settings(text: str) -> dict[str, object]:
    with suppress(ValueError, RecursionError):
        found = cast("object", json.loads(text))
        if isinstance(found, dict):
            return cast("dict[str, object]", found)
    return {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e6 else None
