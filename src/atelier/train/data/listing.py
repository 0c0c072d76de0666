"""What the embedded model was trained on, as data."""

from __future__ import annotations

from typing import TypedDict

from atelier.train.data import scenes


class HeldOut(TypedDict):
    """What training never showed: pairs as [left, right], combinations as [concept, background]."""

    pairs: list[list[str]]
    concept_backgrounds: list[list[str]]


class DataList(TypedDict):
    """Concepts by CLDR name, backgrounds by name with RGB (0 to 255), and what was held out."""

    concepts: list[str]
    backgrounds: dict[str, list[int]]
    held_out: HeldOut


def data_list() -> DataList:
    """The data of the emoji scenes: ready for JSON."""
    return {
        "concepts": [c.name for c in scenes.concepts()],
        "backgrounds": {name: list(rgb) for name, rgb in scenes.BACKGROUNDS.items()},
        "held_out": {
            "pairs": [list(pair) for pair in scenes.held_out_pairs()],
            "concept_backgrounds": [list(pair) for pair in scenes.held_out_colours()],
        },
    }
