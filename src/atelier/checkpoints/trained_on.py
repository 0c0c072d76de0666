"""What an adapter was trained on, as kohya's scripts write it into files (`ss_*`), and most trainers after them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

KOHYA = "ss_"
NOTHING = frozenset({"", "None", "null"})
"""What is written where nothing is known."""
MOST_TAGS, MAX_TEXT = 50, 5_000_000
"""Tags that are told, and characters of a table that is read."""


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """What a file says of its training; None where it says nothing.

    base: the model; base_hash: its hash, as the file quotes it; method: of the network, rank and alpha: of its
    matrices; images, regular: how many of the thing and of its class; resolution: as written; seconds: from start to
    end; finished: seconds since 1970; tags: the most frequent words of the captions, with their counts.
    """

    base: str | None
    base_hash: str | None
    method: str | None
    rank: str | None
    alpha: str | None
    images: int | None
    regular: int | None
    steps: int | None
    epochs: int | None
    batch: str | None
    rate: float | None
    resolution: str | None
    seconds: float | None
    finished: float | None
    comment: str | None
    tags: Mapping[str, int]


def trained_on(metadata: Mapping[str, str]) -> TrainedOn | None:
    """What the metadata of a file tell; None where they tell of no training. Never fails: files say anything."""
    if not any(key.startswith(KOHYA) for key in metadata):
        return None
    started, finished = _number(metadata, "training_started_at"), _number(metadata, "training_finished_at")
    found = TrainedOn(
        base=_text(metadata, "sd_model_name"),
        base_hash=_text(metadata, "new_sd_model_hash") or _text(metadata, "sd_model_hash"),
        method=_text(metadata, "network_module"),
        rank=_text(metadata, "network_dim"),
        alpha=_text(metadata, "network_alpha"),
        images=_count(metadata, "num_train_images"),
        regular=_count(metadata, "num_reg_images"),
        steps=_count(metadata, "steps") or _count(metadata, "max_train_steps"),
        epochs=_count(metadata, "epoch") or _count(metadata, "num_epochs"),
        batch=_text(metadata, "total_batch_size") or _text(metadata, "batch_size_per_device"),
        rate=_number(metadata, "unet_lr") or _number(metadata, "learning_rate"),
        resolution=_text(metadata, "resolution"),
        seconds=None if started is None or finished is None else max(0.0, finished - started),
        finished=finished,
        comment=_text(metadata, "training_comment"),
        tags=tags(metadata.get(f"{KOHYA}tag_frequency", "")),
    )
    return found if any(getattr(found, name) for name in TrainedOn.__dataclass_fields__) else None


def tags(text: str, most: int = MOST_TAGS) -> dict[str, int]:
    """The most frequent of kohya's table of them, {folder: {tag: count}}. What is no such table has none."""
    if not text or len(text) > MAX_TEXT:
        return {}
    try:
        table = cast("object", json.loads(text))
    except (ValueError, RecursionError):
        return {}
    counts: Counter[str] = Counter()
    for folder in cast("dict[str, object]", table).values() if isinstance(table, dict) else ():
        for tag, count in cast("dict[str, object]", folder).items() if isinstance(folder, dict) else ():
            counts[tag.strip()] += count if isinstance(count, int) else 0
    return {tag: count for tag, count in counts.most_common(most) if tag}


def _text(metadata: Mapping[str, str], key: str) -> str | None:
    found = metadata.get(KOHYA + key, "").strip()
    return None if found in NOTHING else found[:500]


def _number(metadata: Mapping[str, str], key: str) -> float | None:
    try:
        found = float(_text(metadata, key) or "nan")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _count(metadata: Mapping[str, str], key: str) -> int | None:
    found = _number(metadata, key)
    return None if found is None else int(found)
